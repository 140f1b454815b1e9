"""`spinmeround deploy`: all deployments on a work pool of an existing server, with the schedules of a file.

A schedule of the file is known by its content, so one that is still in the file stays as a person has left it in the
UI, one that is not, or has changed, is removed, and schedules that people have made are never touched. A limit of the
file is set where a deployment has none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from spinmeround.flows.server.deployments import deployments
from spinmeround.flows.server.registration import keep_changes
from spinmeround.storage.documents import read_text
from spinmeround.storage.errors import ConfigError, one_line, validation_message
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.records import FrozenParams

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.client.schemas.schedules import SCHEDULE_TYPES
    from prefect.deployments.runner import RunnerDeployment

_OURS = "file-"
"""Begin of the slug of a schedule that comes from the file."""


class ScheduleEntry(FrozenParams):
    """A schedule in the file: one of `cron`, `interval` in seconds and `rrule`."""

    cron: str | None = None
    interval: float | None = Field(default=None, gt=0.0)
    rrule: str | None = None
    timezone: str = "UTC"
    active: bool = True

    @property
    def slug(self) -> str:
        return _OURS + sha256_json(self.model_dump(mode="json"))[:12]

    def schedule(self) -> "SCHEDULE_TYPES":
        """Prefect's schedule. Raises ValueError for none, several, or one that Prefect refuses."""
        from datetime import timedelta

        from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule, RRuleSchedule

        given = [name for name in ("cron", "interval", "rrule") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of cron, interval and rrule, got {', '.join(given) or 'none'}")
        if self.cron is not None:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        if self.interval is not None:
            return IntervalSchedule(interval=timedelta(seconds=self.interval), timezone=self.timezone)
        return RRuleSchedule(rrule=str(self.rrule), timezone=self.timezone)


class LimitEntry(FrozenParams):
    """The most runs of a deployment at once, and what becomes of one that is due meanwhile."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"] = "ENQUEUE"


class DeploymentEntry(FrozenParams):
    """What the file adds to one deployment."""

    name: str
    schedules: tuple[ScheduleEntry, ...] = ()
    concurrency_limit: LimitEntry | None = None


class DeployFile(FrozenParams):
    """The content of a `prefect.yaml`, as far as it is ours."""

    name: str = ""
    deployments: tuple[DeploymentEntry, ...] = ()


def read_deploy_file(path: Path) -> dict[str, DeploymentEntry]:
    """The entries of a file by name of the deployment. Raises ConfigError that names the file and the field."""
    import yaml

    try:
        content = yaml.safe_load(read_text(path, "a YAML file"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected a YAML file: {one_line(error)}") from error
    try:
        found = DeployFile.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {validation_message(error)}") from error
    for entry in found.deployments:
        for number, each in enumerate(entry.schedules):
            try:
                each.schedule()
            except ValueError as error:
                raise ConfigError(f"{path}: {entry.name}: schedules.{number}: {one_line(error)}") from error
    names = [entry.name for entry in found.deployments]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{path}: deployments: expected each name once, found {twice!r} several times")
    return dict(zip(names, found.deployments, strict=True))


def deploy(
    runs: Path, pool: str, profiles: Sequence[str] = (), entries: Mapping[str, DeploymentEntry] | None = None
) -> list[str]:
    """Register all deployments on a work pool, which is made if it does not exist; returns their full names.

    Raises ConfigError for an entry of a deployment that does not exist.
    """
    from prefect.client.orchestration import get_client

    entries = entries or {}
    found = deployments(runs, profiles)
    names = [str(each.name) for each in found]
    if unknown := sorted(set(entries) - set(names)):
        raise ConfigError(f"deployments: expected names such as {names[0]}, found {unknown[0]!r}")
    with get_client(sync_client=True) as client:
        _make_pool(client, pool)
        keep_changes(found, client)
        for each in found:
            entry = entries.get(str(each.name), DeploymentEntry(name=str(each.name)))
            _apply(client, each, pool, entry)
    return [each.full_name for each in found]


def _make_pool(client: "SyncPrefectClient", pool: str) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        client.read_work_pool(pool)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process"))


def _apply(client: "SyncPrefectClient", deployment: "RunnerDeployment", pool: str, entry: DeploymentEntry) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions

    deployment.apply(work_pool_name=pool)
    registered = client.read_deployment_by_name(deployment.full_name)
    if registered.global_concurrency_limit is None and entry.concurrency_limit is not None:
        strategy = ConcurrencyLimitStrategy(entry.concurrency_limit.collision_strategy)
        limits = DeploymentUpdate(
            concurrency_limit=entry.concurrency_limit.limit,
            concurrency_options=ConcurrencyOptions(collision_strategy=strategy),
        )
        client.update_deployment(registered.id, limits)
    _update_schedules(client, registered, {each.slug: each for each in entry.schedules})


def _update_schedules(
    client: "SyncPrefectClient", registered: "DeploymentResponse", wanted: Mapping[str, ScheduleEntry]
) -> None:
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    present = {str(each.slug): each for each in registered.schedules if (each.slug or "").startswith(_OURS)}
    for slug in present.keys() - wanted.keys():
        client.delete_deployment_schedule(registered.id, present[slug].id)
    for slug in wanted.keys() - present.keys():
        made = DeploymentScheduleCreate(schedule=wanted[slug].schedule(), active=wanted[slug].active, slug=slug)
        client.request(
            "POST",
            "/deployments/{id}/schedules",
            path_params={"id": registered.id},
            json=[made.model_dump(mode="json", exclude_unset=True)],
        )
