"""Metrics of predicted views against the truth, for one held-out head at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.identity.alignment import align_faces, landmarks_inside
from spinmeround.models.metrics import identity_similarity, l2, mask_iou, normal_angular_error_deg, psnr, ssim
from spinmeround.models.metrics.consistency import pair_consistency
from spinmeround.models.metrics.definitions import PSNR_LIMIT_DB
from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation.geometry import target_depth
from spinmeround.tasks.evaluation.landmarks import TrueLandmarks
from spinmeround.tasks.evaluation.params import Metrics
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import EvaluationViews
from spinmeround.tasks.heads.embed import EmbedParams, cached_embedder, recognition_path
from spinmeround.tasks.loading.view_images import ViewImages, read_views
from spinmeround.tasks.weights.lpips_backbone import load_lpips

_NO_NORMALS = Missing("the head has no normals")


@dataclass(frozen=True, kw_only=True)
class HeadScores:
    """The metrics of a prediction of one head, by name; `missing` gives the reason for each that is None."""

    metrics: Metrics
    missing: dict[str, str] = field(default_factory=dict)
    views: dict[str, list[float | None]] = field(default_factory=dict)
    """The values of each target view, None for a view without one; of metrics that are missing altogether there are
    none."""

    @classmethod
    def of(cls, found: Mapping[str, "Measured | Missing"]) -> Self:
        """Values, and the reasons of those that are missing."""
        known = {name: value for name, value in found.items() if not isinstance(value, Missing)}
        return cls(
            metrics={name: known[name].head if name in known else None for name in found},
            missing={name: value.reason for name, value in found.items() if isinstance(value, Missing)},
            views={
                name: [float(each) if np.isfinite(each) else None for each in value.views]
                for name, value in known.items()
            },
        )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A metric of a head, and of each of its target views; NaN for a view without a value."""

    head: float
    views: Float64[np.ndarray, " view"]

    @classmethod
    def mean(cls, views: Float[np.ndarray, " view"]) -> Self:
        """A metric whose value of a head is the mean over its views."""
        values = np.asarray(views, np.float64)
        return cls(head=float(np.nanmean(values)), views=values)


class Evaluator:
    """Computes the metrics of `models.metrics.definitions` that a single head has."""

    def __init__(self, data: HeadDataset, embed: EmbedParams, lpips_weights: str | None) -> None:
        self.data = data
        self._facing = embed.facing
        weights = Path(lpips_weights) if lpips_weights else None
        self._lpips = load_lpips(weights, field="evaluate.lpips_weights")
        self._embedder = cached_embedder(recognition_path(embed.recognition))
        self._landmarks = TrueLandmarks(data, embed)
        self._last_depth: tuple[EvaluationViews, Float32[np.ndarray, "view height width"] | Missing] | None = None

    def __call__(self, views: EvaluationViews, predicted: Prediction, truth: ViewImages) -> HeadScores:
        """Metrics of the predicted targets of one head, means over its views."""
        found: dict[str, Measured | Missing] = {
            "l2": Measured.mean(l2(predicted.rgb, truth.rgb)),
            "psnr": Measured.mean(np.minimum(psnr(predicted.rgb, truth.rgb), PSNR_LIMIT_DB)),
            "ssim": Measured.mean(ssim(predicted.rgb, truth.rgb)),
            "lpips": self._perceptual(predicted, truth),
            "identity_similarity": self._identity(views, predicted, truth),
            "normal_angular_error_deg": (
                _normal_error(predicted, truth) if self.data.has_normals(views.subject) else _NO_NORMALS
            ),
            "consistency": self._consistency(views, predicted.rgb),
            "mask_iou": _overlap(predicted, truth),
        }
        return HeadScores.of(found)

    def of_truth(self, views: EvaluationViews, truth: ViewImages) -> HeadScores:
        """Of the metrics that compare predicted views with each other, the values of the true views."""
        return HeadScores.of({"consistency": self._consistency(views, truth.rgb)})

    def _perceptual(self, predicted: Prediction, truth: ViewImages) -> Measured | Missing:
        if isinstance(self._lpips, Missing):
            return self._lpips
        return Measured.mean(self._lpips(predicted.rgb, truth.rgb))

    def _consistency(self, views: EvaluationViews, rgb: UInt8[np.ndarray, "view height width 3"]) -> Measured | Missing:
        """PSNR between pairs of views through the hull of the head, which the predictions of a head share."""
        if self._last_depth is None or self._last_depth[0] != views:
            self._last_depth = views, target_depth(self.data, views.subject, views.targets, rgb.shape[1])
        if isinstance(depth := self._last_depth[1], Missing):
            return depth
        cameras = Cameras(**self.data.cameras(views.subject))[views.targets]
        try:
            found = pair_consistency(rgb, depth, cameras)
        except ValueError:
            return Missing("no two targets see the same part of the head")
        of_views = np.full(len(cameras), np.nan)
        for view in range(len(cameras)):
            of_view = np.minimum(
                [psnr for (a, _), psnr in zip(found.of, found.pairs, strict=True) if a == view], PSNR_LIMIT_DB
            )
            of_views[view] = np.nanmean(of_view) if np.isfinite(of_view).any() else np.nan
        return Measured(head=min(found.psnr, PSNR_LIMIT_DB), views=of_views)

    def generated_identity(
        self, views: EvaluationViews, predicted: Prediction
    ) -> Float64[np.ndarray, " 512"] | Missing:
        """The normalised mean of the embeddings of the predicted targets that show the face."""
        truth = read_views(self.data, views.subject, views.targets)
        faces = self._faces(views, truth)
        if isinstance(faces, Missing):
            return faces
        facing, positions = faces
        found = self._embedder.embed(align_faces(predicted.rgb[facing], positions[facing]))
        mean = np.asarray(found, np.float64).mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12))

    def _identity(self, views: EvaluationViews, predicted: Prediction, truth: ViewImages) -> Measured | Missing:
        """Mean cosine between the embeddings of each predicted picture of the face and of its own true picture."""
        faces = self._faces(views, truth)
        if isinstance(faces, Missing):
            return faces
        facing, positions = faces
        found, true = (
            self._embedder.embed(align_faces(rgb[facing], positions[facing])) for rgb in (predicted.rgb, truth.rgb)
        )
        values = np.full(len(views.targets), np.nan)
        values[facing] = identity_similarity(found, true)
        return Measured.mean(values)

    def _faces(
        self, views: EvaluationViews, truth: ViewImages
    ) -> tuple[Int[np.ndarray, " facing"], Float32[np.ndarray, "view 5 2"]] | Missing:
        """The targets that show the face, as indices, and the landmarks of all targets in pixels."""
        cameras = Cameras(**self.data.cameras(views.subject))[views.targets]
        positions = self._landmarks(views.subject, cameras, truth.rgb)
        if isinstance(positions, Missing):
            return positions
        facing = np.flatnonzero(self._facing.select(cameras) & landmarks_inside(positions, truth.rgb.shape[1]))
        return (facing, positions) if len(facing) else Missing("no target shows the face")


def _normal_error(predicted: Prediction, truth: ViewImages) -> Measured | Missing:
    if predicted.normals is None:
        return Missing("no normals were predicted")
    inside = truth.mask == 255
    if not inside.any():
        return Missing("no true mask has an opaque pixel")
    found, true = decode_normals(predicted.normals, predicted.opacity), decode_normals(truth.normals, truth.mask)
    views = [
        normal_angular_error_deg(found[[view]], true[[view]], inside[[view]]).mean if inside[view].any() else np.nan
        for view in range(len(inside))
    ]
    return Measured(head=normal_angular_error_deg(found, true, inside).mean, views=np.array(views, np.float64))


def _overlap(predicted: Prediction, truth: ViewImages) -> Measured | Missing:
    inside = predicted.inside
    if inside is None:
        return Missing("neither masks nor normals were predicted")
    return Measured.mean(mask_iou(inside, truth.mask >= 128))
