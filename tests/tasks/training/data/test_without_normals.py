"""Training and evaluation on a dataset whose heads have no normals, or some of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadArrays, HeadDataset, HeadEntry, assemble, write_head
from spinmeround.tasks.dataset.encode import encode_dataset
from spinmeround.tasks.evaluation.heads import Evaluated
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.run import run_evaluation
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.loading.posed_views import read_posed_views
from spinmeround.tasks.training.data.statistics import head_statistics
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.run import run_training
from tests.support.weights import write_recognition
from tests.tasks.conftest import head

LANDMARKS = [[-0.06, 0.0, 0.15], [0.06, 0.0, 0.15], [0.0, -0.08, 0.2], [-0.04, -0.13, 0.16], [0.04, -0.13, 0.16]]


def captured(root: Path, without: int, encode: EncodeParams, *, test: float = 0.3) -> Path:
    """A dataset of six heads with latents; the first `without` have no normals."""
    heads = [head(seed) for seed in range(6)]
    for number, each in enumerate(heads):
        grey = np.full_like(each.normals, 128)
        values = {**vars(each), "normals": grey} if number < without else vars(each)
        write_head(root / each.id, HeadArrays(**values))
    ids = [each.id for each in heads]
    attributes = {
        "generator": {"name": "captured", "options": {}},
        "split": {"validation": 0.0, "test": test},
        "without_normals": ids[:without],
        "captured": {"landmarks": dict.fromkeys(ids, LANDMARKS)},
    }
    path = assemble(root / "heads.zarr", [HeadEntry(id=id, folder=root / id) for id in ids], attributes).path
    encode_dataset(path, encode)
    return path


def test_training_and_evaluation_without_any_normals(
    tmp_path: Path, encode_params: EncodeParams, train_params: Callable[..., TrainParams]
) -> None:
    """A training of the images alone ends with finite losses; the evaluation names the normals' error as missing."""
    path = captured(tmp_path, 6, encode_params)
    trained = run_training(path, train_params(), encode_params, tmp_path / "out", tmp_path / "checkpoints")
    assert trained.pipeline is not None
    assert np.isfinite([trained.loss_first, trained.loss_last]).all()
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    quick = EvaluateParams(heads=1, targets=3, frontal_targets=1, schedule=NoiseSchedule(steps=2))
    (tmp_path / "evaluation").mkdir()
    evaluated = Evaluated(pipeline=trained.pipeline, training={"multi-view": "0" * 64}, params=quick, embed=embed)
    found = run_evaluation(ArtifactStore(tmp_path / "store"), path, evaluated, tmp_path / "evaluation")
    assert found.model["normal_angular_error_deg"] is None
    assert "no normals" in found.missing["normal_angular_error_deg"]
    assert found.model["psnr"] is not None
    assert found.model["identity_similarity"] is not None  # by the landmarks that the dataset records


def test_only_heads_with_normals_have_statistics_of_them(
    tmp_path: Path, encode_params: EncodeParams, train_params: Callable[..., TrainParams]
) -> None:
    """The normal half is that of the heads with normals; without any it is the identity; images are those of all."""
    params = train_params()
    some = HeadDataset.open(captured(tmp_path / "some", 2, encode_params, test=0.0))
    found = head_statistics(some, range(6), params, encode_params)
    torch.testing.assert_close(found.mean[1], head_statistics(some, range(2, 6), params, encode_params).mean[1])
    none = HeadDataset.open(captured(tmp_path / "none", 6, encode_params, test=0.0))
    alone = head_statistics(none, range(6), params, encode_params)
    torch.testing.assert_close(alone.mean[0], found.mean[0])
    torch.testing.assert_close(alone.mean[1], torch.zeros_like(alone.mean[1]))
    torch.testing.assert_close(alone.std[1], torch.ones_like(alone.std[1]))


def test_given_views_of_a_head_without_normals_have_none(tmp_path: Path, encode_params: EncodeParams) -> None:
    """The pipeline then infers them; those of other heads are given."""
    data = HeadDataset.open(captured(tmp_path, 1, encode_params))
    assert read_posed_views(data, 0, [0]).normals is None
    assert read_posed_views(data, 1, [0]).normals is not None


def test_latents_are_encoded_once(tmp_path: Path, encode_params: EncodeParams) -> None:
    """The second time the latents are found, and stay."""
    path = captured(tmp_path, 1, encode_params)
    before = HeadDataset.open(path).latents_digest
    assert encode_dataset(path, encode_params) == before
