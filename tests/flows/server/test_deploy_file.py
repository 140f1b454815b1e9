"""The file with the schedules and limits of deployments."""

from pathlib import Path

import pytest

from spinmeround.flows.server.deploying import ScheduleEntry, read_deploy_file
from spinmeround.storage.errors import ConfigError

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[3]


def written(folder: Path, schedule: str, more: str = "") -> Path:
    path = folder / "prefect.yaml"
    path.write_text(f"deployments:\n  - name: demo-dataset\n    schedules: [{schedule}]\n{more}")
    return path


def test_the_file_of_the_project() -> None:
    """It is valid, and its schedule is not active, so that nobody's machine builds at night unasked."""
    entry = read_deploy_file(ROOT / "prefect.yaml")["demo-dataset"]
    assert [each.active for each in entry.schedules] == [False]
    assert entry.concurrency_limit is not None
    assert entry.concurrency_limit.limit == 1


@pytest.mark.parametrize(
    "schedule",
    [
        '{cron: "0 3 * * *", timezone: Europe/Athens}',
        "{interval: 3600, timezone: Europe/Athens}",
        '{rrule: "FREQ=WEEKLY;BYDAY=MO", timezone: Europe/Athens}',
    ],
)
def test_schedules_have_a_time_zone(tmp_path: Path, schedule: str) -> None:
    """Cron, interval and RRULE."""
    (entry,) = read_deploy_file(written(tmp_path, schedule))["demo-dataset"].schedules
    assert entry.schedule().timezone == "Europe/Athens"


def test_a_schedule_is_known_by_its_content() -> None:
    """A change of any field in the file makes another schedule of it."""
    nightly = ScheduleEntry(cron="0 3 * * *")
    assert nightly.slug == ScheduleEntry(cron="0 3 * * *", timezone="UTC").slug
    assert nightly.slug != ScheduleEntry(cron="0 3 * * *", active=False).slug
    assert nightly.slug != ScheduleEntry(cron="0 4 * * *").slug


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("{}", "schedules.0: expected one of cron, interval and rrule, got none"),
        ('{cron: "0 3 * * *", interval: 60}', "got cron, interval"),
        ("{cron: at night}", "schedules.0: .*cron"),
        ('{cron: "0 3 * * *", timezone: Atlantis}', "schedules.0: .*timezone"),
        ("{interval: -1}", "interval"),
        ("{cron: [", "expected a YAML file"),
    ],
)
def test_invalid_schedules(tmp_path: Path, schedule: str, message: str) -> None:
    """The error names the file and the entry."""
    with pytest.raises(ConfigError, match=rf"(?s)prefect\.yaml: .*{message}"):
        read_deploy_file(written(tmp_path, schedule))


def test_a_name_is_listed_once(tmp_path: Path) -> None:
    """Two entries of a deployment are refused, as the last would win."""
    with pytest.raises(ConfigError, match="found 'demo-dataset' several times"):
        read_deploy_file(written(tmp_path, "", "  - name: demo-dataset\n"))


def test_unknown_fields_and_missing_files(tmp_path: Path) -> None:
    """A wrong field is named, as is a file that does not exist."""
    with pytest.raises(ConfigError, match=r"deployments\.0\.limit"):
        read_deploy_file(written(tmp_path, "", "    limit: 1\n"))
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        read_deploy_file(tmp_path / "nowhere.yaml")
