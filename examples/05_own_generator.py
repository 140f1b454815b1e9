"""Build a dataset with a generator of your own: the ellipsoids of `examples/own_heads.py`.

    python examples/05_own_generator.py --heads 4

The module of the generator must be importable in the worker processes too, so the script adds its folder to PYTHONPATH.
"""

import argparse
import os
import sys
from pathlib import Path

from spinmeround.flows.cli.shared.options import RunOptions
from spinmeround.flows.cli.shared.run_flow import run_flow

OVERRIDES = [
    'generator.name="own_heads:make"',
    "generator.options={size=0.22}",
    "screen={}",  # the verdict of the profile was fitted to procedural heads
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=4, help="number of heads")
    parser.add_argument("--profile", default="demo", help="name of a profile, or a .toml file")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.field=value; repeatable")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    arguments = parser.parse_args()

    here = str(Path(__file__).parent)
    sys.path.insert(0, here)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))

    overrides = [*OVERRIDES, f"plan.heads={arguments.heads}", *arguments.overrides]
    options = RunOptions(
        profile=arguments.profile, overrides=overrides, runs=arguments.runs, out=arguments.runs / "own"
    )
    summary = run_flow(options, "spinmeround.flows.dataset:dataset_flow")
    print(summary["heads"]["written"], "heads in", summary["dataset"]["path"])


if __name__ == "__main__":
    main()
