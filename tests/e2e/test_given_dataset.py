"""Training and evaluation on a dataset that no run built, whose heads have no normals."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinmeround.flows.evaluation import evaluation_flow
from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.training import training_flow
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset, HeadEntry, assemble, write_head
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.params import PRESETS, load_evaluation
from tests.tasks.conftest import head

LANDMARKS = [[-0.06, 0.0, 0.15], [0.06, 0.0, 0.15], [0.0, -0.08, 0.2], [-0.04, -0.13, 0.16], [0.04, -0.13, 0.16]]


def test_a_given_dataset_is_encoded_trained_on_and_evaluated(
    server: str, tiny: Callable[..., Profile], tmp_path: Path
) -> None:
    """The latents are added to it, and the evaluation names the normals as missing; no head is built. The same model is
    evaluated on all heads of another dataset, without the mean over them, but not on those that it was trained on."""
    dataset, other = captured(tmp_path / "heads", range(6)), captured(tmp_path / "other", range(20, 22))
    place, profile = Place(runs=str(tmp_path / "runs")), tiny()
    training_flow(profile, place, str(dataset))
    assert HeadDataset.open(dataset).has_latents
    key = evaluation_flow(profile, place, str(dataset))
    store = ArtifactStore(tmp_path / "runs" / "tiny" / "store")
    found = load_evaluation(store.verify("evaluate", key).path)
    assert found.model["normal_angular_error_deg"] is None
    assert found.model["psnr"] is not None
    assert not (tmp_path / "runs" / "tiny" / "datasets").exists()

    benchmark = tiny(evaluate={**profile.evaluate.model_dump(mode="json"), **PRESETS["nersemble"]})
    key = evaluation_flow(benchmark, place, str(dataset), str(other))
    found = load_evaluation(store.verify("evaluate", key).path)
    assert [each["id"] for each in found.heads] == list(HeadDataset.open(other).ids)
    assert {len(each["targets"]) for each in found.heads} == {11}
    assert list(found.baselines) == ["nearest_input_view"]
    with pytest.raises(ConfigError, match=r"evaluate\.split: expected held-out on the dataset"):
        evaluation_flow(benchmark, place, str(dataset))


def captured(folder: Path, seeds: Iterable[int]) -> Path:
    """A dataset of heads without normals, whose landmarks are recorded."""
    for seed in seeds:
        each = head(seed)
        write_head(folder / each.id, replace(each, normals=np.full_like(each.normals, 128)))
    entries = [HeadEntry(id=path.name, folder=path) for path in sorted(folder.iterdir())]
    ids = [entry.id for entry in entries]
    attributes = {
        "split": {"validation": 0.0, "test": 0.3},
        "without_normals": ids,
        "captured": {"landmarks": dict.fromkeys(ids, LANDMARKS)},
    }
    assemble(folder.with_suffix(".zarr"), entries, attributes)
    return folder.with_suffix(".zarr")
