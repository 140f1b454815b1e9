"""Train a small model on a dataset and generate views of a held-out head from its frontal view.

    python examples/04_train_and_generate.py --to generated

The training resumes from its newest checkpoint when it was interrupted, and is reused when it is complete.
"""

import argparse
from pathlib import Path

import torch

from spinmeround import HeadDataset, PosedViews, SpinMeRoundPipeline, ViewGrid, orbit
from spinmeround.flows.cli.shared.options import RunOptions
from spinmeround.flows.cli.shared.run_flow import run_flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="demo", help="name of a profile, or a .toml file")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.field=value; repeatable")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps")
    parser.add_argument("--views", type=int, default=7, help="views to generate, evenly spaced around the head")
    parser.add_argument("--to", type=Path, default=Path("generated"), help="folder for the pictures")
    arguments = parser.parse_args()

    options = RunOptions(profile=arguments.profile, overrides=arguments.overrides, runs=arguments.runs)
    built = run_flow(options, "spinmeround.flows.dataset:dataset_flow")  # reuses an existing dataset
    trained = run_flow(options, "spinmeround.flows.training:training_flow")["training"]
    for phase in trained["phases"]:  # each begins with the result of the one before
        losses = f"loss {phase['loss_first']:.3f} to {phase['loss_last']:.3f}"
        print(f"{phase['stage']}: {phase['steps']} steps, {losses}")

    pipeline = SpinMeRoundPipeline.from_pretrained(trained["pipeline"])
    dataset = HeadDataset.open(built["dataset"]["path"])
    head = (dataset.split("test") or [0])[0]

    cameras = dataset.cameras(head)
    front = dataset.nearest_view()
    given = PosedViews(
        cameras=orbit([cameras["azimuth_deg"][front]], [cameras["elevation_deg"][front]]),
        images=dataset.read_views(head, [front], ("rgb",))["rgb"] / 255.0,  # (view, height, width, 3) in [0, 1]
    )
    output = pipeline(
        ViewGrid(azimuths=arguments.views, elevations_deg=(0.0,)).cameras(),
        identity=dataset.read_views(head, [front], ("identity_views",))["identity_views"][0],
        conditioning_views=given,
        num_inference_steps=arguments.steps,
        generator=torch.Generator().manual_seed(0),
    )

    arguments.to.mkdir(parents=True, exist_ok=True)
    for number, (image, normals) in enumerate(zip(output.images, output.normals, strict=True)):
        image.save(arguments.to / f"view-{number}.png")
        normals.save(arguments.to / f"normals-{number}.png")
    print(f"{len(output.images)} views of {dataset.ids[head]} in {arguments.to}")


if __name__ == "__main__":
    main()
