"""Training and evaluation on a dataset that no run built, whose heads have no normals."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from spinmeround.flows.evaluation import evaluation_flow
from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.training import training_flow
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset, HeadEntry, assemble, write_head
from spinmeround.tasks.evaluation.params import load_evaluation
from tests.tasks.conftest import head

LANDMARKS = [[-0.06, 0.0, 0.15], [0.06, 0.0, 0.15], [0.0, -0.08, 0.2], [-0.04, -0.13, 0.16], [0.04, -0.13, 0.16]]


def test_a_given_dataset_is_encoded_trained_on_and_evaluated(
    server: str, tiny: Callable[..., Profile], tmp_path: Path
) -> None:
    """The latents are added to it, and the evaluation names the normals as missing; no head is built."""
    for seed in range(6):
        each = head(seed)
        write_head(tmp_path / "heads" / each.id, replace(each, normals=np.full_like(each.normals, 128)))
    entries = [HeadEntry(id=path.name, folder=path) for path in (tmp_path / "heads").iterdir()]
    ids = [entry.id for entry in entries]
    attributes = {
        "split": {"validation": 0.0, "test": 0.3},
        "without_normals": ids,
        "captured": {"landmarks": dict.fromkeys(ids, LANDMARKS)},
    }
    dataset, place, profile = tmp_path / "heads.zarr", Place(runs=str(tmp_path / "runs")), tiny()
    assemble(dataset, entries, attributes)
    training_flow(profile, place, str(dataset))
    assert HeadDataset.open(dataset).has_latents
    key = evaluation_flow(profile, place, str(dataset))
    store = ArtifactStore(tmp_path / "runs" / "tiny" / "store")
    found = load_evaluation(store.verify("evaluate", key).path)
    assert found.model["normal_angular_error_deg"] is None
    assert found.model["psnr"] is not None
    assert not (tmp_path / "runs" / "tiny" / "datasets").exists()
