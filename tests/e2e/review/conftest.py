"""A screened run to review, shared by all tests of this folder, and the server of its page."""

from collections.abc import Iterator

import pytest

from spinmeround.flows.review.server import ReviewBackend, open_review
from spinmeround.flows.run.folder import Place
from tests.e2e.review.screened_run import PROFILE, run_of, screen_all, serving


@pytest.fixture(scope="session")
def screened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewBackend]:
    """The review of a screened run, made once."""
    with run_of(PROFILE, Place(runs=str(tmp_path_factory.mktemp("screened")))) as session:
        screen_all(session)
        yield open_review(session, "spinmeround build --profile tiny")


@pytest.fixture
def backend(screened: ReviewBackend) -> ReviewBackend:
    """That review without any decision."""
    screened.session.decisions_file.unlink(missing_ok=True)
    return screened


@pytest.fixture(scope="session")
def port(screened: ReviewBackend) -> Iterator[int]:
    """Port of the server of its page."""
    with serving(screened) as port:
        yield port
