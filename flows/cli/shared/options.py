"""Groups of options that several commands share, and the decorator that turns a group into command-line options."""

import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.flows.run.folder import Place

_run_option = partial(typer.Option, rich_help_panel="Run options")

OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override a field of the profile.")
]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The profile of a run, its overrides, and where the run is."""

    profile: Annotated[str, _run_option("--profile", "-p", help="Name of a profile, or a .toml file.")] = "demo"
    overrides: Annotated[
        list[str] | None,
        _run_option("--set", metavar="SECTION.FIELD=VALUE", help="Override a field of the profile; repeatable."),
    ] = None
    runs: Annotated[Path, _run_option("--runs", help="Folder of all runs.")] = Path("runs")
    out: Annotated[Path | None, _run_option("--out", help="Folder of this run; default: RUNS/<profile>.")] = None
    store: Annotated[
        str | None,
        _run_option("--store", help="Artifact store: a folder or s3://bucket/prefix; default: the run's 'store'."),
    ] = None
    workers: Annotated[
        int | None, _run_option("--workers", help="Worker processes; default: the profile's, or one per core.")
    ] = None
    shard_size: Annotated[
        int | None, _run_option("--shard-size", help="Heads per Prefect task run; default: the profile's.")
    ] = None
    trust: Annotated[
        bool, _run_option("--trust", help="Load a generator checkpoint of any origin. A checkpoint can run code.")
    ] = False

    def load(self) -> "tuple[Profile, Place]":
        """Return the profile and the place of the run; raises ConfigError."""
        from spinmeround.flows.profile import load_profile
        from spinmeround.flows.run.folder import Place

        execution = {"workers": self.workers, "shard_size": self.shard_size}
        over = [f"execution.{name}={value}" for name, value in execution.items() if value is not None]
        over += ["generator.options.trust=true"] if self.trust else []
        place = Place(runs=str(self.runs), out=self.out and str(self.out), store=self.store)
        return load_profile(self.profile, [*(self.overrides or []), *over]), place

    def command(self, name: str) -> str:
        """Return the command line of another command on the same run."""
        words = ["spinmeround", *name.split(), "--profile", self.profile]
        words += [word for override in self.overrides or [] for word in ("--set", override)]
        words += ["--trust"] if self.trust else []
        places = {"--runs": self.runs if self.runs != Path("runs") else None, "--out": self.out, "--store": self.store}
        words += [word for option, path in places.items() if path is not None for word in (option, str(path))]
        return shlex.join(words)


_launch_option = partial(typer.Option, rich_help_panel="Processes of the training")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """The processes that a training is divided among: fields of `train.launch` in the profile."""

    launch: Annotated[
        str | None,
        _launch_option("--launch", metavar="LAUNCHER", help="Start them with torchrun, accelerate or slurm."),
    ] = None
    nproc: Annotated[
        int | None, _launch_option("--nproc", help="Processes on each machine, one per GPU; divides the batch.")
    ] = None
    machines: Annotated[int | None, _launch_option("--machines", help="Machines that see the run's folder.")] = None
    rendezvous: Annotated[
        str | None, _launch_option("--rendezvous", metavar="HOST:PORT", help="Address of the first machine.")
    ] = None

    def applied(self, options: RunOptions) -> RunOptions:
        """The options of a run with these as overrides of its profile."""
        named = {
            "launcher": self.launch,
            "processes": self.nproc,
            "machines": self.machines,
            "rendezvous": self.rendezvous,
        }
        over = [f"train.launch.{name}={value}" for name, value in named.items() if value is not None]
        return replace(options, overrides=[*(options.overrides or []), *over])


def run_command(
    app: typer.Typer, *, name: str | None = None, panel: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command; each parameter that is a dataclass becomes one option per field.

    The function's own parameters come first, then the groups in the order of the signature. `name` is that of the
    command, by default the function's; `panel` is its section in the help of `app`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
        groups = {each: hints[each] for each in parameters if is_dataclass(hints[each])}
        own = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[each.name])
            for each in parameters.values()
            if each.name not in groups
        ]
        flat = [*own, *(option for group in groups.values() for option in _options(group))]

        @wraps(function)
        def command(**values: Any) -> None:
            made = {
                each: group(**{field.name: values.pop(field.name) for field in fields(group)})
                for each, group in groups.items()
            }
            function(**made, **values)

        command.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in flat}
        app.command(name, rich_help_panel=panel)(command)
        return function

    return register


def _options(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(group)
    ]
