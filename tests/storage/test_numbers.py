"""The gate: numbers that are not finite, or blank where they can't be, don't enter the store."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field, ValidationError
from safetensors.torch import save_file

from spinmeround.flows.profile import load_profile
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.checkpoints import Checkpoints
from spinmeround.storage.dataset import write_head, write_latents
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.storage.numbers import check_varied, json_text
from spinmeround.storage.records import FrozenModel
from tests.support.heads import make_head

PACKAGE = Path(__file__).parents[2]
NAN, INF = float("nan"), float("inf")


def commit(store: ArtifactStore, name: str, content: Any) -> None:
    arguments: dict[str, Any] = {"version": 1, "params": {}, "inputs": {}, "weights": ""}
    key = artifact_key("score", 1, {}, {}, "")
    with store.commit("score", key, subject="procedural-000007", **arguments) as out:
        if name.endswith(".json"):
            (out / name).write_text(content)
        elif name.endswith(".npz"):
            np.savez(out / name, **content)
        else:
            save_file(content, out / name)


REFUSED = {
    "NaN in JSON": ("a.json", '{"loss": NaN}', "expected finite numbers, found NaN"),
    "infinity in JSON": ("a.json", "[1, -Infinity]", "found -Infinity"),
    "NaN in an array": ("a.npz", {"vertices": np.array([1, NAN])}, r"vertices: .* found 1 of 2 .*first at \(1,\)"),
    "overflow of float16": ("a.npz", {"z": np.array([INF], np.float16)}, "z: expected finite numbers"),
    "infinite depth": ("a.npz", {"depth": np.array([NAN, INF], np.float32)}, "depth: expected finite numbers"),
    "NaN in weights": ("a.safetensors", {"w": torch.tensor([NAN])}, "tensor w: expected finite numbers"),
    "NaN in bfloat16": ("a.safetensors", {"w": torch.tensor([NAN], dtype=torch.bfloat16)}, "tensor w"),
    "blank weights": ("a.safetensors", {"w": torch.zeros(3)}, "all zero"),
    "blank identity": ("a.npz", {"identity": np.zeros(512, np.float32)}, "identity: expected values, found only zeros"),
    "empty mesh": ("a.npz", {"faces": np.zeros((0, 3), np.int32)}, "faces: expected values, found none"),
    "blank mask": ("a.npz", {"mask": np.zeros((2, 4, 4), np.uint8)}, "mask: expected values, found only zeros"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_payload_that_is_not_finite_becomes_no_artifact(tmp_path: Path, fault: str) -> None:
    """The error names stage, head, file and array; the store stays empty."""
    name, content, message = REFUSED[fault]
    store = ArtifactStore(tmp_path / "store")
    with pytest.raises(SpinMeRoundError, match=rf"^score procedural-000007: {name[:2]}.*{message}"):
        commit(store, name, content)
    assert not store.has("score", artifact_key("score", 1, {}, {}, ""))


@pytest.mark.parametrize("name", ["depth", "landmarks", "identity_views"])
def test_nan_is_stored_where_it_means_absent(tmp_path: Path, name: str) -> None:
    """A ray without a hit, a landmark that a head lacks, a view without a face."""
    store = ArtifactStore(tmp_path / "store")
    commit(store, "a.npz", {name: np.full(3, NAN, np.float32)})
    assert store.has("score", artifact_key("score", 1, {}, {}, ""))


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("identity", NAN, "identity: expected finite numbers, found 1 of 512"),
        ("cam2world", INF, "cam2world: expected finite numbers"),
        ("azimuth", NAN, "azimuth: expected finite numbers"),
        ("mask", 0, "mask: expected values, found only zeros"),
    ],
)
def test_a_zarr_group_is_not_written_with_such_numbers(tmp_path: Path, name: str, value: float, found: str) -> None:
    """Of a head; NaN rows of identity_views mean absent."""
    head = make_head(7)
    array = getattr(head, name).copy()
    array[0 if array.ndim == 1 else ...] = value
    with pytest.raises(SpinMeRoundError, match=f"head procedural-000007: {found}"):
        write_head(tmp_path / "head", replace(head, **{name: array}))
    write_head(tmp_path / "whole", head)


def test_latents_are_not_written_with_such_numbers(tmp_path: Path) -> None:
    """An overflow of float16 is infinite."""
    latents, large = np.ones((4, 4, 2, 2), np.float16), np.full((4, 4, 2, 2), INF, np.float16)
    with pytest.raises(SpinMeRoundError, match="latents: normals: expected finite numbers"):
        write_latents(tmp_path / "latents", latents, large)


@pytest.mark.parametrize("field", ["learning_rate", "weight_decay"])
def test_steps_beyond_float32_are_refused_by_name(field: str) -> None:
    """torch would raise its own error after the first step."""
    with pytest.raises(ConfigError, match=rf"train\.{field}: input should be less than or equal to 1, got 1e\+38"):
        load_profile("demo", [f"train.{field}=1e38"])


def test_pictures_with_one_value_are_refused() -> None:
    """A generator that returns white everywhere has made nothing."""
    check_varied("render", {"rgb": np.array([255, 254], np.uint8)})
    with pytest.raises(SpinMeRoundError, match="render h: rgb: expected a picture, found the value 255 everywhere"):
        check_varied("render h", {"rgb": np.full((2, 4, 4, 3), 255, np.uint8)})


def test_a_checkpoint_with_nan_is_not_saved(tmp_path: Path) -> None:
    """The error names the step and the tensor; the checkpoint before stays the newest."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, {"weights.a": torch.zeros(2)}, {})
    with pytest.raises(SpinMeRoundError, match=r"step 10: tensor weights\.a: expected finite numbers"):
        checkpoints.save(10, {"weights.a": torch.tensor([1.0, NAN])}, {})
    assert checkpoints.steps() == [5]


def test_json_names_the_place() -> None:
    """The path to the number, by keys and indices."""
    assert json_text({"a": [1.5]}, "x", indent=None) == '{"a": [1.5]}'
    with pytest.raises(SpinMeRoundError, match=r"^score h: scores: back\[1\]: expected a finite number, found nan"):
        json_text({"scores": {"back": (1.0, NAN)}}, "score h")


def test_all_json_is_strict() -> None:
    """No call of json.dumps writes NaN, which is not JSON and which other readers refuse."""
    folders = ("flows", "tasks", "models", "storage", "panohead_bridge")
    lax = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for folder in folders
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("dump", "dumps")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "json"
        and not any(keyword.arg == "allow_nan" for keyword in node.keywords)
    ]
    assert lax == []


class _Inner(FrozenModel):
    values: tuple[float, ...] = ()
    maybe: float | None = None


class _Outer(FrozenModel):
    inner: _Inner = _Inner()
    named: dict[str, float] = Field(default_factory=dict)


@pytest.mark.parametrize("value", [NAN, INF, -INF, "nan", "inf"])
@pytest.mark.parametrize("place", [("inner", "values"), ("inner", "maybe"), ("named", "a")])
def test_configuration_refuses_what_is_not_finite(place: tuple[str, str], value: float | str) -> None:
    """In nested models, tuples, optional fields and maps."""
    outer, name = place
    with pytest.raises(ValidationError, match="finite number"):
        _Outer.model_validate({outer: {name: (value,) if name == "values" else value}})
