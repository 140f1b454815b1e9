"""One Prefect server for all end-to-end tests, the smallest profile with every stage, and a build of it to copy."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.testing.utilities import prefect_test_harness

from spinmeround.flows.profile import Profile, validate_profile
from spinmeround.flows.server.process import SETTINGS
from spinmeround.tasks.heads.registry import DATASET_STAGES
from tests.e2e.runs import build, copy_runs, recorded
from tests.support.weights import write_autoencoder, write_recognition

TINY: dict[str, Any] = {
    "name": "tiny",
    "generator": {"name": "tests.support.tiny:make"},
    "plan": {"heads": 4},
    "views": {"azimuths": 4, "elevations_deg": [0.0]},
    "sample": {"resolution": 16, "previews": {"azimuths": 4, "elevations_deg": [0.0]}},
    "score": {"cells": 32, "recognition": "none"},
    "screen": {"limits": {"stray_volume": 1e-4, "clipped_volume": 0.0}},
    "render": {"resolution": 16},
    "mesh": {"resolution": 24},
    "train": {
        "unet": {
            "sample_size": 4,
            "views": 4,
            "block_out_channels": [8, 8],
            "layers_per_block": 1,
            "attention_levels": [True, False],
            "multiview_factors": [1],
            "attention_heads": 2,
            "norm_groups": 4,
            "cross_attention_dim": 512,
            "ray_encoding": "plucker",
        },
        "text_encoder": {
            "width": 512,
            "feed_forward": 16,
            "layers": 1,
            "heads": 8,
            "vocabulary": 7,
            "prompt": {"words": [2, 3, 4, 5, 6], "identity": 5, "start": 0, "end": 1, "padding": 1, "length": 8},
        },
        "adapt": {"steps": 1},
        "single_view": {"steps": 1, "groups": [{"conditioning": 1, "targets": 3}]},
        "multi_view": {
            "steps": 2,
            "groups": [{"conditioning": 0, "targets": 4}, {"conditioning": 1, "targets": 3}],
        },
        "batch": 1,
    },
    "evaluate": {"heads": 1, "targets": 3, "frontal_targets": 1, "schedule": {"steps": 1}},
    "publish": {"validation_share": 0.2, "test_share": 0.3},
    "execution": {"shard_size": 2, "workers": 1, "retries": 1, "max_quarantined_share": 0.5},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as end-to-end."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """API of a real server in a process of its own; the client retries when a busy server answers 503."""
    retries = {PREFECT_CLIENT_MAX_RETRIES: int(SETTINGS["PREFECT_CLIENT_MAX_RETRIES"])}
    with (
        patch.dict(os.environ, SETTINGS),
        prefect_test_harness(server_startup_timeout=300),
        temporary_settings(retries),
    ):
        yield str(PREFECT_API_URL.value())


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Sections of a profile that name small random weights."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "embed": {"recognition": str(write_recognition(folder / "recognition.onnx"))},
        "encode": {"autoencoder": str(write_autoencoder(folder / "autoencoder"))},
    }


@pytest.fixture(scope="session")
def tiny(weights: dict[str, Any]) -> Callable[..., Profile]:
    """The tiny profile with changed fields, given as `section__field=value`."""

    def make(**changes: Any) -> Profile:
        values = {**weights, **{name: dict(v) if isinstance(v, dict) else v for name, v in TINY.items()}}
        for name, value in changes.items():
            section, _, field = name.partition("__")
            if field:
                values[section] = {**values.get(section, {}), field: value}
            else:
                values[section] = value
        return validate_profile(values, source="test")

    return make


@dataclass(frozen=True, kw_only=True)
class Build:
    """A finished build: the folder of runs, the run's summary, and the states of its task runs by name."""

    runs: Path
    summary: dict[str, Any]
    states: dict[str, str]


@pytest.fixture(scope="session")
def tiny_build(server: str, tiny: Callable[..., Profile], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A build of the tiny profile. Tests must not change it: `built` is a copy."""
    runs = tmp_path_factory.mktemp("tiny-build")
    summary = build(tiny(), runs)
    return Build(runs=runs, summary=summary, states=recorded("dataset", 2 + 2 * len(DATASET_STAGES)))


@pytest.fixture
def built(tiny_build: Build, tmp_path: Path) -> Path:
    """A folder of runs with a copy of that build."""
    return copy_runs(tiny_build.runs, tmp_path / "runs")


@pytest.fixture
def environment(server: str) -> dict[str, str]:
    """Environment of a command in a process of its own that uses the tests' server."""
    root = Path(__file__).parents[2]
    return {**os.environ, "PREFECT_API_URL": server, "PYTHONPATH": str(root)}


@pytest.fixture
def profile_file(tiny: Callable[..., Profile], tmp_path: Path) -> Path:
    """The tiny profile as a file, with a generator slow enough to be killed while it renders."""
    generator = {"name": "tests.support.tiny:make", "options": {"delay_s": 0.3}}
    return write_profile(tiny(generator=generator, plan={"heads": 8}), tmp_path / "tiny.toml")


def write_profile(profile: Profile, path: Path) -> Path:
    """Write a profile as a file for the command line."""
    values = profile.model_dump(mode="json", exclude_none=True)
    path.write_text("\n".join(f"{name} = {_toml(value)}" for name, value in values.items()), encoding="utf-8")
    return path


def _toml(value: Any) -> str:
    """A value as TOML with inline tables; numbers, strings and booleans are those of JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
