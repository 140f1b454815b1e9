"""The options that all commands on a run share, as one value."""

import inspect
import shlex
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.flows.run.folder import Place


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Which profile, with what changed, and where its run is."""

    profile: Annotated[str, typer.Option("--profile", "-p", help="Name of a profile, or a .toml file.")] = "demo"
    set: Annotated[list[str] | None, typer.Option("--set", help="Override a field: section.field=value.")] = None
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs.")] = Path("runs")
    out: Annotated[Path | None, typer.Option("--out", help="Folder of this run; else RUNS/<profile>.")] = None
    store: Annotated[
        str | None, typer.Option("--store", help="Artifact store: a folder or s3://bucket/prefix; else the run's own.")
    ] = None
    workers: Annotated[int | None, typer.Option("--workers", help="Worker processes; else one for each core.")] = None
    shard_size: Annotated[int | None, typer.Option("--shard-size", help="Heads that one task run covers.")] = None
    trust: Annotated[bool, typer.Option("--trust", help="Open any checkpoint of the generator: it runs code.")] = False

    def load(self) -> "tuple[Profile, Place]":
        """The profile and the place of the run; raises ConfigError."""
        from spinmeround.flows.profile import load_profile
        from spinmeround.flows.run.folder import Place

        execution = {"workers": self.workers, "shard_size": self.shard_size}
        over = [f"execution.{name}={value}" for name, value in execution.items() if value is not None]
        over += ["generator.options.trust=true"] if self.trust else []
        place = Place(runs=str(self.runs), out=self.out and str(self.out), store=self.store)
        return load_profile(self.profile, [*(self.set or []), *over]), place

    def command(self, name: str) -> str:
        """The line that runs another command on the same run."""
        words = ["spinmeround", *name.split(), "--profile", self.profile]
        words += [word for override in self.set or [] for word in ("--set", override)]
        words += ["--trust"] if self.trust else []
        places = {"--runs": self.runs if self.runs != Path("runs") else None, "--out": self.out, "--store": self.store}
        words += [word for option, path in places.items() if path is not None for word in (option, str(path))]
        return shlex.join(words)


def run_command(app: typer.Typer) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function with a parameter `options: RunOptions` a command that has each of their fields as an option."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = [each for each in inspect.signature(function).parameters.values() if each.name != "options"]
        shared = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type)
            for each in fields(RunOptions)
        ]

        @wraps(function)
        def command(**values: Any) -> None:
            options = RunOptions(**{each.name: values.pop(each.name) for each in fields(RunOptions)})
            function(options=options, **values)

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + shared
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command()(command)
        return function

    return register
