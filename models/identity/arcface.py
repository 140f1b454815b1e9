"""ArcFace identity embeddings (Deng et al. 2019) of aligned crops, and the one embedding of a head.

The network is an ONNX file in insightface's form: input [n, 3, 112, 112], output [n, 512]. insightface's own
class runs it. A graph that shifts and scales its input itself gets pixels of 0 to 255, any other
(pixel - 127.5) / 127.5; RGB in both cases. insightface tells the two apart by nodes that are named Sub and Mul
among the first eight, which goes wrong where a tool renamed the nodes; here the graph itself decides.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from jaxtyping import Bool, Float, Float32, UInt8
from pydantic import Field

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.alignment import CROP_SIDE, align_faces, landmarks_inside
from spinmeround.models.identity.onnx_sessions import open_session
from spinmeround.storage.records import FrozenModel

EMBEDDING_SIZE = 512
_SCALING = {"Sub": "shift", "Add": "shift", "Mul": "scaling", "Div": "scaling"}


class FrontalViews(FrozenModel):
    """Which views count as frontal: the identity of a head is the mean over these."""

    max_azimuth_deg: float = Field(30.0, ge=0.0, le=180.0, description="Largest azimuth to either side, in degrees")
    max_elevation_deg: float = Field(15.0, ge=0.0, le=90.0, description="Largest elevation up or down, in degrees")

    def select(self, cameras: Cameras) -> Bool[np.ndarray, " view"]:
        azimuth = (cameras.azimuth_deg.astype(np.float64) + 180.0) % 360.0 - 180.0
        elevation = cameras.elevation_deg.astype(np.float64)
        # the azimuths are float32: a view at 30.000001 is meant to be at 30
        near = np.abs(azimuth) <= self.max_azimuth_deg + 1e-3
        return near & (np.abs(elevation) <= self.max_elevation_deg + 1e-3)


@dataclass(frozen=True, kw_only=True)
class HeadIdentity:
    """Who a head is: one unit embedding, and those of its accepted views (NaN rows for the other views)."""

    identity: Float32[np.ndarray, "512"]
    views: Float32[np.ndarray, "view 512"]
    frontal: Bool[np.ndarray, " view"]
    accepted: Bool[np.ndarray, " view"]

    @property
    def without_face(self) -> int:
        """Frontal views that were skipped, since they show no whole face."""
        return int((self.frontal & ~self.accepted).sum())


class ArcFaceEmbedder:
    """An ArcFace network; one thread on a CPU, so that the same crop gives the same bits."""

    def __init__(self, path: Path, *, providers: tuple[str, ...] | None = None, batch_size: int = 32) -> None:
        """Loads an ONNX file; `providers` are onnxruntime's, by default CUDA where it is there, then the CPU.

        Raises:
            ValueError: if the file is missing, is no ONNX network, or has not ArcFace's input and output.
        """
        self._network = ArcFaceONNX(str(path), session=open_session(path, "ArcFace network", providers))
        _check_signature(path, self._network.input_shape, self._network.output_shape)
        middle, scale = (0.0, 1.0) if _scaled_inside(path) else (127.5, 127.5)
        self._network.input_mean, self._network.input_std = middle, scale
        fixed = self._network.input_shape[0]
        self.batch_size = fixed if isinstance(fixed, int) else batch_size

    def embed(self, crops: UInt8[np.ndarray, "crop 112 112 3"]) -> Float32[np.ndarray, "crop 512"]:
        """L2-normalised embeddings of RGB crops of `alignment.align_faces`.

        Raises:
            ValueError: if the network gives an embedding that is zero or not finite.
        """
        batches = [self._embed_batch(crops[start : start + self.batch_size]) for start in self._starts(len(crops))]
        embeddings = np.concatenate([np.zeros((0, EMBEDDING_SIZE)), *batches])
        length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
        if not (np.isfinite(length) & (length > 0)).all():
            raise ValueError("ArcFace: the network gives an embedding that is zero or not finite; check its weights")
        return np.asarray(embeddings / length, np.float32)

    def _starts(self, crops: int) -> range:
        return range(0, crops, self.batch_size)

    def _embed_batch(self, crops: UInt8[np.ndarray, "crop 112 112 3"]) -> Float32[np.ndarray, "crop 512"]:
        """Raw embeddings; a last batch that is too small for a network with a fixed batch is filled with zeros."""
        bgr = [np.ascontiguousarray(crop[..., ::-1]) for crop in crops]
        missing = self.batch_size - len(bgr) if isinstance(self._network.input_shape[0], int) else 0
        filler = [np.zeros((CROP_SIDE, CROP_SIDE, 3), np.uint8)] * missing
        return np.asarray(self._network.get_feat(bgr + filler)[: len(bgr)])


def mean_identity(
    views: Float[np.ndarray, "view 512"], accepted: Bool[np.ndarray, " view"]
) -> Float32[np.ndarray, "512"]:
    """The L2-normalised mean over the accepted views.

    Raises:
        ValueError: if no view is accepted.
    """
    if not accepted.any():
        raise ValueError("identity: no frontal view shows a face; allow larger angles or leave this head out")
    mean = views[accepted].astype(np.float64).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def embed_views(
    embedder: ArcFaceEmbedder,
    rgb: UInt8[np.ndarray, "view height width 3"],
    landmarks: Float32[np.ndarray, "view 5 2"],
    frontal: Bool[np.ndarray, " view"],
) -> HeadIdentity:
    """The identity of a head from its pictures and the landmarks in them, in pixels; NaN where a view shows no face.

    A view is accepted where it is frontal and all five landmarks are inside of the picture.

    Raises:
        ValueError: if no view is accepted.
    """
    accepted = frontal & landmarks_inside(landmarks, rgb.shape[1])
    if not accepted.any():
        raise ValueError(
            f"identity: no frontal view shows a face ({int(frontal.sum())} were looked at); "
            "allow larger angles or leave this head out"
        )
    views = np.full((len(rgb), EMBEDDING_SIZE), np.nan, np.float32)
    views[accepted] = embedder.embed(align_faces(rgb[accepted], landmarks[accepted]))
    return HeadIdentity(identity=mean_identity(views, accepted), views=views, frontal=frontal, accepted=accepted)


def _scaled_inside(path: Path) -> bool:
    """Whether a graph scales pixels itself: it subtracts and multiplies by constants before anything else.

    Raises:
        ValueError: if it does one without the other, so that how it wants its pixels cannot be told.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    inputs = [value.name for value in graph.input if value.name not in constants]
    done, current = set(), inputs[0]
    while (node := next((each for each in graph.node if current in each.input), None)) is not None:
        scaling = node.op_type in _SCALING and all(name in constants for name in node.input if name != current)
        if not scaling and node.op_type not in ("Cast", "Identity"):
            break
        done |= {_SCALING[node.op_type]} if scaling else set()
        current = node.output[0]
    if len(done) == 1:
        raise ValueError(
            f"ArcFace network: {path} begins with a {next(iter(done))} by constants alone, expected to shift and scale "
            "pixels or neither; it cannot be told which pixels it wants"
        )
    return bool(done)


def _check_signature(path: Path, taken: list[int | str | None], given: list[int | str | None]) -> None:
    if list(taken[1:]) != [3, CROP_SIDE, CROP_SIDE] or list(given[1:]) != [EMBEDDING_SIZE]:
        raise ValueError(
            f"ArcFace network: {path} takes {taken} and gives {given}, expected [n, 3, {CROP_SIDE}, {CROP_SIDE}] "
            f"and [n, {EMBEDDING_SIZE}]; is it a recognition network?"
        )
