"""The training heads nearest to generated heads, found by their identities."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spinmeround.models.identity.alignment import align_faces
from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation.evaluator import Evaluator
from spinmeround.tasks.evaluation.identities import nearest_training_heads
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import choose_views
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import read_views
from tests.support.weights import write_recognition

PARAMS = EvaluateParams(heads=2, targets=2, frontal_targets=1)


class Faces:
    """An evaluator that knows the identity of each generated head."""

    def __init__(self, identities: dict[int, np.ndarray | Missing]) -> None:
        self._identities = identities

    def generated_identity(self, views: Any, predicted: Prediction) -> np.ndarray | Missing:
        return self._identities[views.subject]


def scored(data: HeadDataset) -> list[Any]:
    chosen = choose_views(data, PARAMS, EmbedParams().frontal)
    return [SimpleNamespace(id=data.ids[views.subject], views=views, generated=None) for views in chosen]


def test_a_repeated_training_head_is_named(dataset: Path) -> None:
    """A generated head with a training head's identity: similarity 1 to it, less to the truth; a head without a face
    is left out."""
    data = HeadDataset.open(dataset)
    heads, repeated = scored(data), data.split("train")[3]
    first, second = (head.views.subject for head in heads)
    copied: Any = Faces({first: data.identities[repeated].astype(np.float64), second: Missing("no target")})
    found = nearest_training_heads(data, copied, heads, PARAMS)
    assert found["missing"] == ""
    (only,) = found["heads"]
    assert (only["id"], only["nearest"]) == (data.ids[first], data.ids[repeated])
    assert only["nearest_similarity"] == pytest.approx(1, abs=1e-5)
    assert only["own"] == pytest.approx(float(data.identities[first] @ data.identities[repeated]), abs=1e-5)
    train = data.identities[data.split("train")]
    assert only["true_nearest_similarity"] == pytest.approx(float((train @ data.identities[first]).max()), abs=1e-5)


def test_reasons_without_identities(dataset: Path) -> None:
    """No generated head shows a face, or the training heads are elsewhere."""
    data = HeadDataset.open(dataset)
    heads = scored(data)
    none: Any = Faces({head.views.subject: Missing("no target shows the face") for head in heads})
    assert nearest_training_heads(data, none, heads, PARAMS) == {
        "heads": [],
        "missing": f"{heads[0].id}: no target shows the face",
    }
    other = PARAMS.model_copy(update={"split": "all"})
    assert nearest_training_heads(data, none, heads, other)["missing"] == "the training heads are not in this dataset"


def test_the_identity_is_the_mean_over_the_pictures_that_show_the_face(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The normalised mean of the embeddings of facing targets, aligned by the landmarks of the truth; or the reason."""
    data = HeadDataset.open(dataset)
    network = write_recognition(tmp_path / "recognition.onnx")
    evaluator = Evaluator(data, EmbedParams(recognition=str(network)), None)
    (views, *_) = choose_views(data, PARAMS, EmbedParams().frontal)
    predicted = Prediction.of(read_views(data, views.subject, views.targets))
    side = predicted.rgb.shape[1]
    positions = np.repeat(np.array([[[5, 6], [10, 6], [8, 9], [6, 12], [10, 12]]], np.float32) * side / 16, 2, axis=0)
    monkeypatch.setattr(evaluator, "_faces", lambda views, truth: (np.array([0, 1]), positions))
    embedded = ArcFaceEmbedder(network).embed(align_faces(predicted.rgb, positions)).astype(np.float64)
    expected = embedded.mean(axis=0) / np.linalg.norm(embedded.mean(axis=0))
    np.testing.assert_allclose(evaluator.generated_identity(views, predicted), expected, atol=1e-6)
    monkeypatch.setattr(evaluator, "_faces", lambda views, truth: Missing("no target shows the face"))
    assert evaluator.generated_identity(views, predicted) == Missing("no target shows the face")
