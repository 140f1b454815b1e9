"""Metrics of predicted views against the truth, for one held-out head at a time."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.identity.alignment import align_faces, landmarks_inside, project_landmarks
from spinmeround.models.metrics import identity_similarity, l2, normal_angular_error_deg, psnr, ssim
from spinmeround.models.metrics.perceptual import Missing
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.dataset import CAPTURED, HeadDataset
from spinmeround.tasks.evaluation.params import Metrics
from spinmeround.tasks.evaluation.views import EvaluationViews
from spinmeround.tasks.heads.embed import EmbedParams, cached_embedder, recognition_path
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.loading.view_images import ViewImages
from spinmeround.tasks.weights.lpips_backbone import load_lpips


class Evaluator:
    """Computes metrics of predictions; `missing` gives the reason for each metric that could not be computed."""

    def __init__(self, data: HeadDataset, embed: EmbedParams, lpips_weights: str | None) -> None:
        self.data = data
        self.missing: dict[str, str] = {}
        self._facing = embed.facing
        weights = Path(lpips_weights) if lpips_weights else None
        self._lpips = load_lpips(weights, field="evaluate.lpips_weights")
        if isinstance(self._lpips, Missing):
            self.missing["lpips"] = self._lpips.reason
        self._embedder = cached_embedder(recognition_path(embed.recognition))

    def __call__(self, views: EvaluationViews, predicted: ViewImages, truth: ViewImages) -> Metrics:
        """Metrics of the predicted targets of one head, means over its views."""
        return {
            "l2": float(l2(predicted.rgb, truth.rgb).mean()),
            "psnr": float(psnr(predicted.rgb, truth.rgb).mean()),
            "ssim": float(ssim(predicted.rgb, truth.rgb).mean()),
            "identity_similarity": self._identity(views, predicted, truth),
            "normal_angular_error_deg": self._normal_error(views.subject, predicted, truth),
            "lpips": None if isinstance(self._lpips, Missing) else float(self._lpips(predicted.rgb, truth.rgb).mean()),
        }

    def _normal_error(self, subject: int, predicted: ViewImages, truth: ViewImages) -> float | None:
        """Mean angular error of the normals where the head is opaque; None for a head without normals."""
        if not self.data.has_normals(subject):
            self.missing["normal_angular_error_deg"] = f"{self.data.ids[subject]}: the head has no normals"
            return None
        found, true = (decode_normals(images.normals, images.mask) for images in (predicted, truth))
        return normal_angular_error_deg(found, true, truth.mask == 255).mean

    def _identity(self, views: EvaluationViews, predicted: ViewImages, truth: ViewImages) -> float | None:
        """Mean cosine between the embeddings of each predicted picture of the face and of its own true picture."""
        cameras = Cameras(**self.data.cameras(views.subject))[views.targets]
        landmarks = self._landmarks(views.subject)
        if landmarks is None:
            self._note_missing(views.subject, "no landmarks are known")
            return None
        side = predicted.rgb.shape[1]
        positions = project_landmarks(cameras, landmarks, side)
        facing = np.flatnonzero(self._facing.select(cameras) & landmarks_inside(positions, side))
        if not len(facing):
            self._note_missing(views.subject, "no target shows the face")
            return None
        found, true = (
            self._embedder.embed(align_faces(images.rgb[facing], positions[facing])) for images in (predicted, truth)
        )
        return float(identity_similarity(found, true).mean())

    def _note_missing(self, subject: int, reason: str) -> None:
        self.missing["identity_similarity"] = f"{self.data.ids[subject]}: {reason}"

    def _landmarks(self, subject: int) -> Float32[np.ndarray, "5 3"] | None:
        """Landmarks in the world frame: those that a captured dataset records, or the generator's."""
        if (captured := self.data.attributes.get(CAPTURED)) is not None:
            return np.array(captured["landmarks"][self.data.ids[subject]], np.float32)
        generator = generator_of(GeneratorConfig.model_validate(self.data.attributes["generator"]))
        return generator.landmarks(generator.sample(int(self.data.seeds[subject])))
