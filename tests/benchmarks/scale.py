"""Scaling with the number of heads: a build's time, memory and inodes, and opening a dataset of up to a million heads.

Each size is a `spinmeround build` in its own process, Prefect server and run folder: ellipsoids of 8 pixels and 2 views
go through every stage to a published dataset, and then the same build runs again and reuses everything. The
recognition network is a random linear map in ArcFace's format, because the benchmark measures the overhead and not
the arithmetic.

Datasets that would take weeks to build are synthetic: complete metadata, listing and small arrays, and no shards.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras, pixel_rays
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.records import Identity, Rendering
from spinmeround.tasks.heads.registry import DATASET_STAGES
from tests.benchmarks._builds import Watched, run_build, task_runs, write_profile
from tests.benchmarks._synthetic_scale import opened, verified
from tests.support.inodes import StoreInodes, dataset_inodes, store_inodes


class Ellipsoids:
    """A generator of negligible cost: half axes and colour follow from the seed."""

    name, fingerprint, box_warp = "ellipsoids", "ellipsoids-1", 1.0

    def sample(self, seed: int) -> Identity:
        return Identity(seed=seed, latent=np.random.default_rng([seed, 1]).standard_normal(6).astype(np.float32))

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        origins, directions = pixel_rays(cameras, resolution)  # (view, height, width, 3), in the world
        o, d = origins / self._half_axes(identity), directions / self._half_axes(identity)
        a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.0
        hit = b * b > a * c
        along = np.where(hit, (-b - np.sqrt(np.maximum(b * b - a * c, 0.0))) / a, np.nan)
        depth = along * (directions * cameras.cam2world[:, None, None, :3, 2]).sum(-1)
        colour = np.rint(120 + 100 * np.tanh(identity.latent[3:])).astype(np.uint8)
        rgb = np.where(hit[..., None], colour, np.uint8(255))
        return Rendering(rgb=rgb, mask=hit.astype(np.uint8) * 255, depth=depth.astype(np.float32))

    def density(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        outward = np.linalg.norm(points / self._half_axes(identity), axis=-1) - 1.0
        return np.clip(10.0 - 50.0 * outward, 0.0, 20.0).astype(np.float32)

    def landmarks(self, identity: Identity) -> Float32[np.ndarray, "5 3"]:
        sights = np.array([[-0.3, 0.3, 1.0], [0.3, 0.3, 1.0], [0.0, 0.0, 1.0], [-0.3, -0.4, 1.0], [0.3, -0.4, 1.0]])
        sights /= np.linalg.norm(sights, axis=1, keepdims=True)
        return (sights * self._half_axes(identity)).astype(np.float32)

    def _half_axes(self, identity: Identity) -> Float32[np.ndarray, "3"]:
        return (0.25 * (1.0 + 0.1 * np.tanh(identity.latent[:3]))).astype(np.float32)


def main(
    heads: Annotated[
        list[int] | None, typer.Option(min=1, help="Number of heads; repeatable. Default: 100, 1000, 10000.")
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Folder of the runs; the benchmark empties the subfolder of each size.")
    ] = Path("runs/bench-scale"),
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 2,
    synthetic: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Heads of a synthetic dataset; repeatable. Alone, nothing is built."),
    ] = None,
    verified_heads: Annotated[int, typer.Option(min=1, help="Heads of the synthetic dataset that is verified.")] = 2000,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the runs.")] = False,
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure how builds scale with the number of heads, how long a rerun takes, and what large datasets cost.

    Default: builds of 100, 1,000 and 10,000 heads, synthetic datasets of 10,000, 100,000 and 1,000,000.
    """
    built = sorted(set(heads or (() if synthetic else (100, 1_000, 10_000))))
    large = sorted(set(synthetic or (() if heads else (10_000, 100_000, 1_000_000))))
    place = folder.absolute() / "synthetic"
    shutil.rmtree(place, ignore_errors=True)
    tables: dict[str, Sequence[Mapping[str, Any]]] = {}
    if built:
        tables |= _build_tables([_measure(size, folder.absolute() / str(size), workers, keep=keep) for size in built])
    if large:
        tables["a synthetic dataset"] = [opened(place / str(size), size) for size in large]
        tables["verified byte by byte"] = [verified(place / "verified", verified_heads)]
    return tables


def _build_tables(measured: Sequence["Measured"]) -> dict[str, Sequence[Mapping[str, Any]]]:
    return {
        "a build": [each.row() for each in measured],
        "milliseconds per head and stage, summed over workers": [each.stage_row() for each in measured],
        "files and folders per artifact": [each.inode_row() for each in measured],
        "the same build again": [each.again_row() for each in measured],
    }


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A build of this many heads, and its rerun."""

    heads: int
    first: Watched
    again: Watched
    stages: Mapping[str, Mapping[str, Any]]
    work_s: float
    task_runs: int
    unfinished: int
    again_task_runs: int
    inodes: StoreInodes
    dataset_inodes: tuple[int, int]

    def row(self) -> dict[str, Any]:
        return {
            "heads": self.heads,
            "seconds": round(self.first.seconds, 1),
            "first to last task run": round(self.work_s, 1),
            "ms per head": 1000 * self.work_s / self.heads,
            "CPU ms per head": 1000 * sum(self.first.cpu_s.values()) / self.heads,
            "main MB": round(self.first.main_mb),
            "worker MB": round(self.first.worker_mb),
            "open files, main": self.first.main_files,
            "open files, worker": self.first.worker_files,
            "task runs": self.task_runs,
            "unfinished task runs": self.unfinished,
        }

    def stage_row(self) -> dict[str, Any]:
        return {
            "heads": self.heads,
            **{name: 1000 * stage["seconds"] / self.heads for name, stage in self.stages.items()},
        }

    def inode_row(self) -> dict[str, Any]:
        own, links = self.dataset_inodes
        return {
            "heads": self.heads,
            **self.inodes.per_artifact(),
            "shared, per head": self.inodes.others / self.heads,
            "store, per head": (sum(self.inodes.inodes.values()) + self.inodes.others) / self.heads,
            "dataset, per head": own / self.heads,
            "hard links, per head": links / self.heads,
        }

    def again_row(self) -> dict[str, Any]:
        return {
            "heads": self.heads,
            "seconds": round(self.again.seconds, 1),
            "CPU seconds": sum(self.again.cpu_s.values()),
            "main MB": round(self.again.main_mb),
            "open files, main": self.again.main_files,
            "task runs": self.again_task_runs,
        }


def _measure(heads: int, folder: Path, workers: int, *, keep: bool) -> Measured:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    profile = write_profile(folder, heads)
    command = ["build", "--profile", str(profile), "--runs", str(folder), "--workers", str(workers)]
    first = run_build(command, folder / "first.log")
    made = _summary(folder, heads)["stages"]
    runs, unfinished, work_s = task_runs(folder)
    again = run_build(command, folder / "again.log")
    reused = _summary(folder, heads)["stages"]
    if any(stage["made"] for stage in reused.values()):
        raise SpinMeRoundError(f"{folder}: expected nothing to be made again, found {reused}")
    total, *_ = task_runs(folder)
    (dataset,) = (folder / "scale" / "datasets").glob("*.zarr")
    found = Measured(
        heads=heads,
        first=first,
        again=again,
        stages=made,
        work_s=work_s,
        task_runs=runs,
        unfinished=unfinished,
        again_task_runs=total - runs,
        inodes=store_inodes(folder / "scale" / "store"),
        dataset_inodes=dataset_inodes(dataset),
    )
    if not keep:
        shutil.rmtree(folder)
    return found


def _summary(folder: Path, heads: int) -> dict[str, Any]:
    """The summary of the run. Raises SpinMeRoundError unless every stage completed for every head."""
    summary: dict[str, Any] = json.loads((folder / "scale" / "summary.json").read_text())
    if summary["heads"]["written"] != heads or set(summary["stages"]) != {*_stages(), "publish"}:
        raise SpinMeRoundError(f"{folder}: expected {heads} heads written by every stage, found {summary['heads']}")
    return summary


def _stages() -> list[str]:
    return [stage.name for stage in DATASET_STAGES]
