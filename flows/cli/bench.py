"""`spinmeround bench`: reproducible measurements, recorded with the machine that ran them.

A benchmark is a module of `tests/benchmarks` in a clone of the project. Its function `main` takes the benchmark's
options and returns tables: {title: [{column: value}]}. Ratios compare with an alternative measured in the same run.
"""

import ast
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from spinmeround.flows.cli.shared.output import print_values
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.files import write_atomic

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"

Tables = Mapping[str, Sequence[Mapping[str, Any]]]


def register(app: typer.Typer, panel: str) -> None:
    """Add the command, which hands unknown options to the benchmark."""
    own_options = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(context_settings=own_options, rich_help_panel=panel)(bench)


def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Name of the benchmark; default: list all.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write the tables to.")] = None,
) -> None:
    """Run a benchmark; `spinmeround bench NAME --help` lists its options."""
    if name is None or name == "--help":
        found = benchmarks()
        print_values(found, width=max(map(len, found), default=0))
        return
    run_benchmark(name, context.args, json_file)


def benchmarks() -> dict[str, str]:
    """Names of the benchmarks, each with the first line of its docstring."""
    modules = sorted(path for path in BENCHMARKS.glob("*.py") if not path.stem.startswith(("_", "test_")))
    return {
        path.stem: (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
        for path in modules
    }


def run_benchmark(name: str, arguments: Sequence[str], to: Path | None) -> None:
    """Run a benchmark with its own command-line arguments, print its tables, and write them as JSON to `to`.

    Raises ConfigError for an unknown benchmark.
    """
    if name not in benchmarks():
        known = ", ".join(benchmarks()) or f"none ({BENCHMARKS} exists only in a clone of the project)"
        raise ConfigError(f"bench {name!r}: expected one of {known}")
    command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    command.command()(_main_of(name))
    tables = command(args=list(arguments), prog_name=f"spinmeround bench {name}", standalone_mode=False)
    if not isinstance(tables, Mapping):  # --help
        return
    show(tables)
    if to is not None:
        result = {"benchmark": name, "arguments": list(arguments), "machine": machine(), "tables": tables}
        write_atomic(to, json.dumps(result, indent=1, default=float, allow_nan=False).encode())


def _main_of(name: str) -> Callable[..., Tables]:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    main: Callable[..., Tables] = importlib.import_module(f"tests.benchmarks.{name}").main
    return main


def machine() -> dict[str, Any]:
    """The machine that ran a benchmark, and the time."""
    import torch

    from spinmeround.models.device import instruction_set

    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "instructions": instruction_set(torch.device("cpu")),
        "python": platform.python_version(),
    }


def show(tables: Tables) -> None:
    """Print tables; numbers have four significant digits."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 160)
    for title, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*(_text(row.get(column, "")) for column in columns))
        console.print(table)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
