"""The benchmark `sampling`: every part gives finite numbers, and its options reach the pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError


def test_every_part_is_measured(dataset: Path, pipeline: Path) -> None:
    """Solvers, inferred normals compared with the mean map, and anchored compared with unanchored views have finite
    rows, next to upper bounds."""
    from tests.benchmarks.sampling import main

    options = {"model": pipeline, "dataset": dataset, "heads": 1, "steps": 2, "threads": 1}
    parts = ["steps", "normals", "consistency"]
    tables = list(main(**options, part=parts, views=16, counts="2", poses=3).values())
    solvers, normals, views = tables
    assert [row["solver"] for row in solvers] == ["euler", "heun", "dpmpp"]
    measures = ("PSNR of the truth", "normals, degrees", "PSNR of the solved equation")
    assert all(np.isfinite([row[measure] for measure in measures]).all() for row in solvers)
    assert [row["azimuth"] for row in normals[1:]] == ["-60", "0", "60"]
    methods = ("Algorithm 1", "without guidance", "the mean map", "truth through the autoencoder")
    assert all(0 <= row[method] <= 180 for row in normals for method in methods)
    assert normals[0]["Algorithm 1"] == pytest.approx(np.mean([row["Algorithm 1"] for row in normals[1:]]))
    assert normals[0]["of"] == 3
    by_name = {row["views"]: row for row in views}
    for measure in ("an eighth apart", "neighbours", "weakest neighbours"):
        assert by_name["true pictures"][measure] == max(row[measure] for row in views)
        for row in views:
            assert row[f"{measure}: wins"] == (row[measure] > by_name["unanchored"][measure])
    for name in ("anchored", "unanchored"):
        assert by_name[name]["weakest neighbours"] < by_name[name]["neighbours"]
        assert by_name[name]["an eighth apart"] != by_name[name]["neighbours"]
    with pytest.raises(ConfigError, match="--part: expected some of speed, steps, normals, consistency, got 'colour'"):
        main(model=pipeline, dataset=dataset, part=["colour"])
    with pytest.raises(ConfigError, match=r"--way: expected some of batched, compiled, .* got 'quick'"):
        main(way=["bfloat16+quick"])


def test_heads_and_guidance_are_options(dataset: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are those after --skip, guidance is --guidance; training splits and too large skips are refused."""
    from tests.benchmarks.sampling import main

    calls: list[tuple[float, np.ndarray]] = []
    call = SpinMeRoundPipeline.__call__

    def watched(self: SpinMeRoundPipeline, *args: Any, **options: Any) -> Any:
        calls.append((options["guidance_scale"], options["identity"]))
        return call(self, *args, **options)

    monkeypatch.setattr(SpinMeRoundPipeline, "__call__", watched)
    options = {"model": pipeline, "dataset": dataset, "part": ["consistency"], "views": 9, "steps": 1, "threads": 1}
    data = HeadDataset.open(dataset)
    expected = [*data.split("test"), *data.split("validation")][1]
    (title,) = main(**options, heads=1, skip=1, guidance=1.5)
    assert "guidance 1.5, 1 heads of test and validation from the 2." in title
    assert {scale for scale, _ in calls} == {1.5}
    assert all((identity == data.identities[expected]).all() for _, identity in calls)
    with pytest.raises(ConfigError, match="--split: expected test or validation, the held-out splits, got 'tr"):
        main(**options, split=["train"])
    with pytest.raises(ConfigError, match="--skip: expected held-out heads after the first 1000"):
        main(**options, skip=1000)


def test_timed_variants_compute_the_baseline(pipeline: Path) -> None:
    """The baseline, two forwards per step with text and cameras encoded each time, gives the default's latents to
    rounding, for a request of several groups."""
    from tests.benchmarks._sampling_speed import Job, largest_difference, measure

    shape = {"model": pipeline, "views": 13, "steps": 2, "repeats": 1, "threads": 1, "device": "cpu"}
    plain, default = (measure(Job(ways=(way,), **shape)) for way in ("plain", "batched"))
    assert plain["latents"].shape[0] == 13
    assert largest_difference(default["latents"], plain["latents"]) < 1e-4
    assert plain["seconds a view"] > 0
