"""One small report shared by all tests of this folder: two heads in the viewer, 5 azimuths by 3 elevations."""

import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.tasks.report.data import ReportData
from spinmeround.tasks.report.render import render_report
from tests.tasks.report.synthetic import report_data


@pytest.fixture(scope="session")
def data() -> ReportData:
    return report_data(heads=2, grid=ViewGrid(azimuths=5, elevations_deg=(-30.0, 0.0, 30.0)), kept=3)


@pytest.fixture(scope="session")
def page(data: ReportData) -> str:
    return render_report(data)
