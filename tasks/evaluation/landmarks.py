"""Landmarks of the true views, by which true and predicted faces are aligned alike for identity similarity.

They are those that a captured dataset records, or come from the generator, if it can be made on this machine and knows
them, or from the profile's detector in the true pictures, as `embed.landmarks` says. None of these is needed: a head
without landmarks has no identity similarity.
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float32, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.alignment import project_landmarks
from spinmeround.models.identity.detection import FaceDetector
from spinmeround.models.metrics.missing import Missing
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.dataset import CAPTURED, HeadDataset
from spinmeround.storage.errors import one_line
from spinmeround.tasks.heads.embed import EmbedParams, cached_detector, detected_landmarks, detector_path
from spinmeround.tasks.heads.generator import generator_of


class TrueLandmarks:
    """Finds the landmarks of a dataset's heads; generator and detector are made when first needed."""

    def __init__(self, data: HeadDataset, embed: EmbedParams) -> None:
        self._data, self._embed = data, embed

    def __call__(
        self, subject: int, cameras: Cameras, rgb: UInt8[np.ndarray, "view side side 3"]
    ) -> Float32[np.ndarray, "view 5 2"] | Missing:
        """Pixel positions in true pictures `rgb` of one head, NaN for views without a face; or why there are none."""
        known = self._recorded(subject)
        if not isinstance(known, Missing):
            return project_landmarks(cameras, known, rgb.shape[1])
        detector = self._detector
        if isinstance(detector, Missing):
            return Missing(f"{known.reason}, and {detector.reason}")
        return detected_landmarks(detector, rgb, self._embed.facing.select(cameras))

    def _recorded(self, subject: int) -> Float32[np.ndarray, "5 3"] | Missing:
        """In the world frame: those that a captured dataset records, or the generator's."""
        if (captured := self._data.attributes.get(CAPTURED)) is not None:
            return np.array(captured["landmarks"][self._data.ids[subject]], np.float32)
        return self._of_generator(subject)

    def _of_generator(self, subject: int) -> Float32[np.ndarray, "5 3"] | Missing:
        """In the world frame. Generators are plugins, so any failure of one only means that it knows none."""
        generator = self._generator
        if isinstance(generator, Missing):
            return generator
        try:
            found = generator.landmarks(generator.sample(int(self._data.seeds[subject])))
        except Exception as error:
            return Missing(f"the generator fails ({one_line(error, 150)})")
        return Missing("the generator has no landmarks") if found is None else found

    @cached_property
    def _generator(self) -> HeadGenerator | Missing:
        if self._embed.landmarks == "detector":
            return Missing("embed.landmarks is 'detector'")
        recorded = self._data.attributes.get("generator")
        if recorded is None:
            return Missing("the dataset names no generator")
        values = {name: value for name, value in recorded.items() if name != "provenance"}
        try:
            return generator_of(GeneratorConfig.model_validate(values))
        except Exception as error:
            return Missing(f"the generator is not available ({one_line(error, 150)})")

    @cached_property
    def _detector(self) -> FaceDetector | Missing:
        try:
            path = detector_path(self._embed)
            if path is None:
                return Missing("the profile names no detector (embed.pack)")
            return cached_detector(path, self._embed.detection)
        except ValueError as error:
            return Missing(f"the detector is not available ({one_line(error, 150)})")
