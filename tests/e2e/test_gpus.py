"""Builds on a machine with GPUs that do not exist, with a miniature PanoHead checkout."""

from pathlib import Path

import pytest

from tests.e2e.runs import build, counts
from tests.support.gpus import list_gpus
from tests.support.mini_panohead import CENTRE, RADIUS, calls, write_checkout, write_network

FACE = [[-0.05, 0.04, 1.0], [0.05, 0.04, 1.0], [0.0, 0.0, 1.0], [-0.04, -0.05, 1.0], [0.04, -0.05, 1.0]]


@pytest.mark.usefixtures("server")
def test_two_workers_with_a_gpu_each_build_panoheads(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both render, each in the process of its own GPU, which it keeps from shard to shard; the mesh is made there."""
    list_gpus(tmp_path, monkeypatch, 2)
    checkout = write_checkout(tmp_path / "PanoHead")
    landmarks = [[CENTRE[0] + x, CENTRE[1] + y, CENTRE[2] + RADIUS * z] for x, y, z in FACE]
    options = {"checkout": str(checkout), "network": str(write_network(checkout, tmp_path / "network.pkl"))}
    profile = tiny(
        generator={"name": "panohead", "options": {**options, "trust": True, "landmarks": landmarks}},
        screen={},
        execution={"shard_size": 1, "workers": 1},
    )
    found = build(profile, tmp_path / "runs")
    assert {stage: made for stage, (made, _) in counts(found).items() if stage != "publish"} == dict.fromkeys(
        ("sample", "score", "screen", "review", "render", "mesh", "normals", "embed"), 4
    )
    made = [call["gpu"] for call in calls(checkout, "mapping")]
    assert set(made) == {"0", "1"}
