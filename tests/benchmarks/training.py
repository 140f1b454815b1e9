"""Time, memory and utilisation of a training step, against a plain loop on the same UNet, batch and precision.

The two take turns in one process, a few steps each, so that whatever else the machine does meets both. MFU is the
share of the rate of a large matrix product in the same precision, measured in the same run.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from spinmeround.models.device import best_device, instruction_set
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import MultiViewPhase
from tests.benchmarks._training import (
    PlainLoop,
    ProjectLoop,
    part_costs,
    peak_memory,
    product_rate,
    seconds_of,
    step_operations,
    write_dataset,
)

Rows = Sequence[Mapping[str, Any]]


def main(
    size: Annotated[str, typer.Option(help="Sizes of random weights: demo or full.")] = "demo",
    batch: Annotated[int, typer.Option(min=1, help="Groups of 8 views in a step.")] = 4,
    micro_batch: Annotated[int, typer.Option(min=0, help="Groups in a forward pass; 0: all.")] = 0,
    precision: Annotated[str, typer.Option(help="float32, tf32, bfloat16 or float16.")] = "float32",
    background: Annotated[float, typer.Option(min=0, max=1, help="Share of recoloured samples.")] = 0.5,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each loop.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Steps in a turn.")] = 4,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: torch's default.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead; 0: a thread.")] = 0,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the repeated blocks.")] = False,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Recompute activations.")] = False,
) -> Mapping[str, Rows]:
    """Measure a training step."""
    if threads:
        torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        params, encode, side = setting(size, Path(scratch))
        params = params.model_copy(
            update={
                "batch": batch,
                "micro_batch": micro_batch,
                "precision": precision,
                "random_background": background,
                "threads": threads,
                "workers": workers,
                "compile": compiled,
                "gradient_checkpointing": checkpointing,
            }
        )
        data = write_dataset(Path(scratch) / "heads", params, encode, side)
        ours, plain = ProjectLoop(data, params, encode, Path(scratch) / "run"), PlainLoop(data, params, encode)
        with ours.feed:
            turns = _alternate(ours, plain, rounds, steps)
        return _tables(turns, ours, plain, params)


def setting(size: str, scratch: Path) -> tuple[TrainParams, EncodeParams, int]:
    """Parameters of a training of 8 views a group, its autoencoder, and the side of its pictures."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.weights.stub_diffusion import write_autoencoder

    if size not in ("demo", "full"):
        raise ConfigError(f"--size: expected demo or full, got {size!r}")
    demo, steps = load_profile("demo"), MultiViewPhase(steps=100_000)
    nothing = {"adapt": demo.train.adapt.model_copy(update={"steps": 0})}
    nothing["single_view"] = demo.train.single_view.model_copy(update={"steps": 0})
    changes = {**nothing, "multi_view": steps, "record_every": 1}
    if size == "demo":
        return demo.train.model_copy(update=changes), demo.encode, demo.render.resolution
    (scratch / "vae").mkdir()
    write_autoencoder(scratch / "vae", small=False, seed=0)
    return TrainParams(**changes), EncodeParams(autoencoder=str(scratch / "vae")), 512


def _alternate(ours: ProjectLoop, plain: PlainLoop, rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """Turns of both loops over the same steps, after two steps to warm up, which are not counted."""
    device, number = ours.processes.device, 2
    found: dict[str, dict[str, Any]] = {}
    for name, loop in (("SpinMeRound", ours), ("plain loop", plain)):
        for step in range(number):
            loop.step(step)
        found[name] = {"seconds": [], "waited": 0.0, "peak": []}
    for _ in range(rounds):
        for name, loop in (("SpinMeRound", ours), ("plain loop", plain)):
            before = loop.waited
            with peak_memory(device, found[name]["peak"]):
                for step in range(number, number + steps):
                    took = seconds_of(lambda loop=loop, step=step: loop.step(step), device, repeats=1)  # type: ignore[misc]
                    found[name]["seconds"].append(took)
            found[name]["waited"] += loop.waited - before
        number += steps
    return found


def _tables(
    turns: Mapping[str, Mapping[str, Any]], ours: ProjectLoop, plain: PlainLoop, params: TrainParams
) -> dict[str, Rows]:
    device = ours.processes.device
    operations, rate = step_operations(ours, 2), product_rate(params.precision, device)
    medians = {name: float(np.median(turn["seconds"])) for name, turn in turns.items()}
    rows = [
        {
            "loop": name,
            "seconds a step": medians[name],
            "fastest step": min(turn["seconds"]),
            "times as fast": medians["plain loop"] / medians[name],
            "data wait, %": 100 * turn["waited"] / sum(turn["seconds"]),
            "peak MB of both": float(np.median(turn["peak"])),
            "MFU, %": 100 * operations / medians[name] / rate,
        }
        for name, turn in turns.items()
    ]
    costs = part_costs(ours, 2, repeats=5)
    whole = sum(costs.values())
    parts = [{"part": name, "seconds": cost, "share, %": 100 * cost / whole} for name, cost in costs.items()]
    where = f"{instruction_set(best_device())}, {torch.get_num_threads()} threads" if device.type == "cpu" else "GPU"
    title = f"{params.batch} groups of 8 views, {params.precision}, {operations / 1e9:.0f} GFLOP a step, {where}"
    return {title: rows, f"parts of a step; a product reaches {rate / 1e9:.0f} GFLOP/s": parts}
