"""The interface of a generator of heads; all stages of the dataset use only this."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.records import Identity, NormalMaps, Rendering

FIVE_LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
"""Order of the five landmarks; left and right as seen in the picture (ArcFace's template)."""


@runtime_checkable
class HeadGenerator(Protocol):
    """Makes heads in the world frame of `models.geometry.cameras`.

    The same seed gives the same head, bit for bit, independent of earlier calls. A generator that computes on a GPU has
    an attribute `uses_gpu` that is true; its stages then run in workers that have a GPU each.
    """

    name: str
    """Lower-case name; the first part of a head's id."""

    fingerprint: str
    """Changes when the heads change: a digest of the weights, or of the code of a generator without weights."""

    box_warp: float
    """Side of the cube around the origin that contains the head, in world units."""

    def sample(self, seed: int) -> Identity:
        """The head of this seed."""

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        """Pictures from all cameras, composited on white, with anti-aliased masks."""

    def density(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        """Raw density at points of the cube (PanoHead's sigma; 10 on the surface); larger is inside."""

    def landmarks(self, identity: Identity) -> Float32[np.ndarray, "5 3"] | None:
        """True positions of FIVE_LANDMARKS in the world frame; None if the generator does not know them.

        A row is NaN if this head lacks the landmark, for instance where the cube cuts off the face. No view of
        such a head is aligned or embedded.
        """


@runtime_checkable
class InterpolatingGenerator(HeadGenerator, Protocol):
    """A generator that can interpolate between two heads; optional."""

    def interpolate(self, start: Identity, end: Identity, share: float) -> Identity:
        """The head between two, at `share` from 0 (`start`) to 1 (`end`)."""


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Pictures of the head that a generator found in given pictures; `normals` is None if it has none.

    `error` is the root mean square difference between the given pictures and the head's, colours from 0 to 1.
    """

    rendering: Rendering
    normals: NormalMaps | None
    error: float


@runtime_checkable
class InvertibleGenerator(HeadGenerator, Protocol):
    """A generator that can search for the head that pictures show; optional."""

    def invert(
        self,
        rgb: UInt8[np.ndarray, "view height width 3"],
        mask: UInt8[np.ndarray, "view height width"],
        cameras: Cameras,
        targets: Cameras,
        options: Mapping[str, Any],
    ) -> Inversion:
        """Find the head in pictures on white, and render it from the cameras `targets` in the same size.

        Equal arguments give equal results. Raises pydantic's ValidationError for options that it does not take.
        """


@runtime_checkable
class Fault(Protocol):
    """A defect of a head: its kind, and its strength from 0 to 1."""

    @property
    def kind(self) -> str: ...

    @property
    def strength(self) -> float: ...


@runtime_checkable
class LabelledGenerator(HeadGenerator, Protocol):
    """A generator that knows which of its heads are defective; optional. For measurement only: no stage uses it."""

    def defect(self, identity: Identity) -> Fault | None:
        """The defect of this head; None for a clean head."""
