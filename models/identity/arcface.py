"""ArcFace identity embeddings (Deng et al. 2019) of aligned crops, and the identity of a head.

The network is an ONNX file in insightface's format, input [n, 3, 112, 112], output [n, 512], run by insightface's own
class. A graph that normalises its input receives RGB pixels of 0 to 255, any other (pixel - 127.5) / 127.5. insightface
distinguishes the two by nodes named Sub and Mul among the first eight, which fails for renamed nodes; this module
examines the graph instead.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from jaxtyping import Bool, Float, Float32, UInt8

from spinmeround.models.identity.alignment import align_faces, landmarks_inside
from spinmeround.models.identity.onnx_sessions import network_errors, open_session
from spinmeround.models.identity.params import CROP_SIDE, EMBEDDING_SIZE
from spinmeround.storage.errors import ConfigError

_LARGEST_BATCH = 4096
_NORMALISATION = {"Sub": "shift", "Add": "shift", "Mul": "scaling", "Div": "scaling"}


@dataclass(frozen=True, kw_only=True)
class HeadIdentity:
    """The identity of a head: the unit embedding of its accepted frontal views, and those of all embedded views.

    Rows of other views are NaN.
    """

    identity: Float32[np.ndarray, "512"]
    views: Float32[np.ndarray, "view 512"]
    frontal: Bool[np.ndarray, " view"]
    accepted: Bool[np.ndarray, " view"]

    @property
    def without_face(self) -> int:
        """Number of frontal views skipped because they do not show the complete face."""
        return int((self.frontal & ~self.accepted).sum())


class ArcFaceEmbedder:
    """An ArcFace network; single-threaded on a CPU, so that equal crops give bit-identical embeddings."""

    def __init__(self, path: Path, *, providers: tuple[str, ...] | None = None, batch_size: int = 32) -> None:
        """Loads an ONNX file. `providers` are onnxruntime's, by default CUDA if available, then the CPU.

        Raises:
            ConfigError: if the file is missing, not an ONNX network, or lacks ArcFace's input and output.
        """
        session = open_session(path, "ArcFace network", providers)
        self._failed = f"ArcFace network: expected embeddings of crops, {path} fails"
        with network_errors(self._failed):
            self._network = ArcFaceONNX(str(path), session=session)
            _check_signature(path, self._network.input_shape, self._network.output_shape)
            mean, std = (0.0, 1.0) if _normalises_input(path) else (127.5, 127.5)
        self._network.input_mean, self._network.input_std = mean, std
        fixed = self._network.input_shape[0]
        self.batch_size = fixed if isinstance(fixed, int) else batch_size
        if not 1 <= self.batch_size <= _LARGEST_BATCH:
            raise ConfigError(
                f"ArcFace network: expected a batch of 1 to {_LARGEST_BATCH} crops, found {fixed} in {path}"
            )

    def embed(self, crops: UInt8[np.ndarray, "crop 112 112 3"]) -> Float32[np.ndarray, "crop 512"]:
        """L2-normalised embeddings of RGB crops from `alignment.align_faces`.

        Raises:
            ConfigError: if the network fails, or returns an embedding that is zero or not finite.
        """
        starts = range(0, len(crops), self.batch_size)
        batches = [self._embed_batch(crops[start : start + self.batch_size]) for start in starts]
        embeddings = np.concatenate([np.zeros((0, EMBEDDING_SIZE)), *batches])
        length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
        if not (np.isfinite(length) & (length > 0)).all():
            raise ConfigError(
                f"{self._failed} (it returns an embedding that is zero or not finite); get the network again"
            )
        return np.asarray(embeddings / length, np.float32)

    def _embed_batch(self, crops: UInt8[np.ndarray, "crop 112 112 3"]) -> Float32[np.ndarray, "crop 512"]:
        """Raw embeddings; pads the last batch with zeros if the network has a fixed batch size."""
        bgr = [np.ascontiguousarray(crop[..., ::-1]) for crop in crops]
        missing = self.batch_size - len(bgr) if isinstance(self._network.input_shape[0], int) else 0
        padding = [np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8)] * missing
        with network_errors(self._failed):
            return np.asarray(self._network.get_feat(bgr + padding)).reshape(-1, EMBEDDING_SIZE)[: len(bgr)]


def mean_identity(
    views: Float[np.ndarray, "view 512"], accepted: Bool[np.ndarray, " view"]
) -> Float32[np.ndarray, "512"]:
    """The L2-normalised mean over the accepted views.

    Raises:
        ValueError: if no view is accepted.
    """
    if not accepted.any():
        raise ValueError("identity: no frontal view shows a face; allow larger angles or exclude this head")
    mean = views[accepted].astype(np.float64).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def embed_views(
    embedder: ArcFaceEmbedder,
    rgb: UInt8[np.ndarray, "view height width 3"],
    landmarks: Float32[np.ndarray, "view 5 2"],
    frontal: Bool[np.ndarray, " view"],
    facing: Bool[np.ndarray, " view"] | None = None,
) -> HeadIdentity:
    """The identity of a head from its images and their landmarks, in pixels.

    Embedded are the views that are `frontal` or `facing` and have all five landmarks inside the image; the identity is
    the mean over the frontal ones of these.

    Raises:
        ValueError: if no frontal view is embedded.
    """
    inside = landmarks_inside(landmarks, rgb.shape[1])
    accepted = frontal & inside
    if not accepted.any():
        raise ValueError(
            f"identity: no frontal view shows a face ({int(frontal.sum())} examined); "
            "allow larger angles or exclude this head"
        )
    views = np.full((len(rgb), EMBEDDING_SIZE), np.nan, np.float32)
    embedded = accepted if facing is None else (frontal | facing) & inside
    views[embedded] = embedder.embed(align_faces(rgb[embedded], landmarks[embedded]))
    return HeadIdentity(identity=mean_identity(views, accepted), views=views, frontal=frontal, accepted=accepted)


def _normalises_input(path: Path) -> bool:
    """Whether a graph first shifts and scales its input by constants.

    Raises:
        ConfigError: if it does only one of the two, which leaves its pixel range unknown.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    inputs = [value.name for value in graph.input if value.name not in constants]
    done, current = set(), inputs[0]
    while (node := next((each for each in graph.node if current in each.input), None)) is not None:
        normalises = node.op_type in _NORMALISATION and all(name in constants for name in node.input if name != current)
        if not normalises and node.op_type not in ("Cast", "Identity"):
            break
        done |= {_NORMALISATION[node.op_type]} if normalises else set()
        current = node.output[0]
    if len(done) == 1:
        raise ConfigError(
            f"ArcFace network: {path} starts with a constant {next(iter(done))} alone, expected shift and scaling of "
            "the pixels, or neither; its pixel range is unknown"
        )
    return bool(done)


def _check_signature(path: Path, taken: list[int | str | None], given: list[int | str | None]) -> None:
    if list(taken[1:]) != [3, CROP_SIDE, CROP_SIDE] or list(given[1:]) != [EMBEDDING_SIZE]:
        raise ConfigError(
            f"ArcFace network: expected input [n, 3, {CROP_SIDE}, {CROP_SIDE}] and output [n, {EMBEDDING_SIZE}], "
            f"got {taken} and {given} in {path}; use a recognition network"
        )
