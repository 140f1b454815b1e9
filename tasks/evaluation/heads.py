"""Predictions and scores of single heads, kept as they are made, from which a stopped evaluation resumes.

Each is an artifact of the stage `evaluate-head`: `scores.json`, the metrics and the reasons for missing ones by
prediction, and, where the model predicted, `predicted.npz` with its `rgb` and, if it has them, `normals`. Numbers are
read back exactly.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import CorruptArtifact
from spinmeround.storage.numbers import json_text
from spinmeround.tasks.evaluation.baselines import MeanTrainingImages, nearest_input_view
from spinmeround.tasks.evaluation.evaluator import Evaluator, HeadScores
from spinmeround.tasks.evaluation.methods import MethodFolder
from spinmeround.tasks.evaluation.model import predict_views
from spinmeround.tasks.evaluation.params import MEAN, MODEL, NEAREST, TRUTH, EvaluateParams, key_parts
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import EvaluationViews
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import ViewImages, read_views

STAGE, VERSION = "evaluate-head", 3


@dataclass(frozen=True, kw_only=True)
class ScoredHead:
    """The scores of one head by prediction and of the truth, and what the model generated."""

    id: str
    views: EvaluationViews
    scores: dict[str, HeadScores]
    generated: Prediction


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What is evaluated: the folder of a pipeline, its training by stage, and the parameters."""

    pipeline: Path
    training: Mapping[str, str]
    params: EvaluateParams
    embed: EmbedParams


class HeadScorer:
    """Predicts and scores heads, or reads what the store has of them; loads the networks when first needed."""

    def __init__(
        self, store: ArtifactStore, data: HeadDataset, evaluated: Evaluated, methods: Sequence[MethodFolder]
    ) -> None:
        self._store, self._data, self._evaluated, self._methods = store, data, evaluated, methods
        self._params, self._inputs, self._weights = key_parts(
            data.digest, evaluated.training, evaluated.params, evaluated.embed
        )

    def __call__(self, views: EvaluationViews) -> ScoredHead:
        """The scores of all predictions of one head."""
        own = self._kept(views, self._sampling, self._inputs, lambda out: self._make_own(views, out))
        scores = _read_scores(own)
        with np.load(own / "predicted.npz", allow_pickle=False) as arrays:
            generated = Prediction(**arrays)
        for method in self._methods:
            scores |= self._of_method(method, views)
        return ScoredHead(id=self._data.ids[views.subject], views=views, scores=scores, generated=generated)

    def has(self, views: EvaluationViews) -> bool:
        """Whether the store has the model's prediction of a head and the scores of all predictions."""
        wanted = [(self._sampling, self._inputs), *(self._method_key(method, views) for method in self._methods)]
        return all(
            self._store.has(STAGE, artifact_key(STAGE, VERSION, self._content(views, params), inputs, self._weights))
            for params, inputs in wanted
        )

    def pictures(self, name: str, head: ScoredHead) -> Prediction:
        """What the prediction `name` shows of a head."""
        method = next((each for each in self._methods if each.name == name), None)
        if method is not None:
            return method.read(head.id, head.views.targets)
        if name == MODEL:
            return head.generated
        return self._baselines(head.views)[name]

    @property
    def _sampling(self) -> dict[str, Any]:
        """The parameters that the model's prediction of one head reads."""
        ignored = ("heads", "targets", "frontal_targets", "facing_deg", "frontal_input", "predictions")
        return {name: value for name, value in self._params.items() if name not in ignored}

    def _of_method(self, method: MethodFolder, views: EvaluationViews) -> dict[str, HeadScores]:
        id = self._data.ids[views.subject]

        def make(out: Path) -> None:
            predicted = method.read(id, views.targets)
            _write_scores(out, {"method": self.evaluator(views, predicted, self._truth(views))})

        folder = self._kept(views, *self._method_key(method, views), make)
        return {method.name: _read_scores(folder)["method"]}

    def _method_key(self, method: MethodFolder, views: EvaluationViews) -> tuple[dict[str, Any], dict[str, str]]:
        """The parameters and inputs of the scores of a method's pictures of one head."""
        pictures = method.fingerprint(self._data.ids[views.subject], views.targets)
        return {"embed": self._params["embed"], "pictures": pictures}, {"dataset": self._data.digest}

    def _make_own(self, views: EvaluationViews, out: Path) -> None:
        evaluate, truth = self.evaluator, self._truth(views)  # wrong weights are refused before a long prediction
        generated = predict_views(self._model, self._data, views, self._evaluated.params)
        predictions = {MODEL: generated, **self._baselines(views)}
        scores = {name: evaluate(views, predicted, truth) for name, predicted in predictions.items()}
        scores[TRUTH] = evaluate.of_truth(views, truth)
        normals: dict[str, Any] = {} if generated.normals is None else {"normals": generated.normals}
        np.savez(out / "predicted.npz", rgb=generated.rgb, **normals)
        _write_scores(out, scores)

    def _baselines(self, views: EvaluationViews) -> dict[str, Prediction]:
        known, mean = views.conditioning_indices, dict[str, Prediction]()
        if self._evaluated.params.split == "held-out":  # others are among those that the mean is taken over
            mean[MEAN] = Prediction.of(self._mean_image(views.targets))
        if not known:
            return mean
        cameras, given = Cameras(**self._data.cameras(views.subject)), read_views(self._data, views.subject, known)
        nearest = nearest_input_view(given, cameras[known], cameras[views.targets])
        return {NEAREST: Prediction.of(nearest), **mean}

    def _truth(self, views: EvaluationViews) -> ViewImages:
        return read_views(self._data, views.subject, views.targets)

    def _kept(
        self,
        views: EvaluationViews,
        params: Mapping[str, Any],
        inputs: Mapping[str, str],
        make: Callable[[Path], None],
    ) -> Path:
        """The folder of the results of a head, made unless the store has it; made again, with a warning, if damaged."""
        id, content = self._data.ids[views.subject], self._content(views, params)
        key = artifact_key(STAGE, VERSION, content, inputs, self._weights)
        about: dict[str, Any] = {
            "version": VERSION,
            "params": content,
            "inputs": inputs,
            "weights": self._weights,
            "subject": id,
        }
        self._store.make_once(STAGE, key, make, **about)
        try:
            return self._store.verify(STAGE, key).path
        except CorruptArtifact as error:  # the store has moved it aside
            warnings.warn(str(error), stacklevel=2)
            self._store.make_once(STAGE, key, make, **about)
            return self._store.verify(STAGE, key).path

    def _content(self, views: EvaluationViews, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of the results of one head."""
        id = self._data.ids[views.subject]
        return {**params, "head": id, "conditioning": views.conditioning_indices, "views": views.targets}

    @cached_property
    def _model(self) -> SpinMeRoundPipeline:
        return load_pipeline(self._evaluated.pipeline)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Scores predictions; loads the networks of the metrics."""
        return Evaluator(self._data, self._evaluated.embed, self._evaluated.params.lpips_weights)

    @cached_property
    def _mean_image(self) -> MeanTrainingImages:
        return MeanTrainingImages(self._data, self._data.split("train"))


def _write_scores(out: Path, scores: Mapping[str, HeadScores]) -> None:
    found = {name: asdict(each) for name, each in scores.items()}
    (out / "scores.json").write_text(json_text(found, "scores"), encoding="utf-8")


def _read_scores(folder: Path) -> dict[str, HeadScores]:
    found = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return {name: HeadScores(**each) for name, each in found.items()}
