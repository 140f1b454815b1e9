"""Build a dataset from Python, as `spinmeround build` does.

    python examples/01_build_dataset.py --set plan.heads=8

A second run reuses everything that its parameters do not change.
"""

import argparse
from pathlib import Path

from spinmeround.flows.cli.shared.options import RunOptions
from spinmeround.flows.cli.shared.run_flow import run_flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="demo", help="name of a profile, or a .toml file")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.field=value; repeatable")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    arguments = parser.parse_args()

    options = RunOptions(profile=arguments.profile, overrides=arguments.overrides, runs=arguments.runs)
    summary = run_flow(options, "spinmeround.flows.dataset:dataset_flow")

    for name, stage in summary["stages"].items():
        print(f"{name}: {stage['made']} made, {stage['reused']} reused")
    print("dataset:", summary["dataset"]["path"])


if __name__ == "__main__":
    main()
