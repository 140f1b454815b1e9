"""What a generator of heads offers; every stage of the dataset is written against this alone."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.records import Identity, Rendering

FIVE_LANDMARKS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
"""Order of the five landmarks, left and right as the picture shows them (ArcFace's template)."""


@runtime_checkable
class HeadGenerator(Protocol):
    """Invents heads in the world frame of `models.geometry.cameras`.

    The same seed gives the same head, bit for bit, whatever was asked before.
    """

    name: str
    """Lower-case name; the first half of a head's id."""

    fingerprint: str
    """Changes when the heads change: of the weights, or of the code of a generator without weights."""

    box_warp: float
    """Side of the cube round the origin that holds the head, in world units."""

    def sample(self, seed: int) -> Identity:
        """The head of this seed."""

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        """Pictures from all cameras, composited on white, with anti-aliased masks."""

    def density(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        """Raw density at points of the cube (PanoHead's sigma; 10 on the surface); larger is inside."""

    def landmarks(self, identity: Identity) -> Float32[np.ndarray, "5 3"] | None:
        """True positions of FIVE_LANDMARKS, in the world; None where the generator does not know them.

        A row is NaN where this head lacks the landmark, for instance where the cube cuts the face off. No
        picture shows such a landmark, so no view of that head is aligned or embedded by it.
        """


@runtime_checkable
class InterpolatingGenerator(HeadGenerator, Protocol):
    """A generator that also knows the heads between two heads; optional."""

    def interpolate(self, start: Identity, end: Identity, share: float) -> Identity:
        """The head at `share`, 0 (`start`) to 1 (`end`), of the way between two."""


@runtime_checkable
class Fault(Protocol):
    """What is wrong with a head: which kind of defect, and how strong from 0 to 1."""

    @property
    def kind(self) -> str: ...

    @property
    def strength(self) -> float: ...


@runtime_checkable
class LabelledGenerator(HeadGenerator, Protocol):
    """A generator that knows which of its heads are spoilt; optional. For measurement only: no stage asks."""

    def defect(self, identity: Identity) -> Fault | None:
        """What is wrong with this head, None where nothing is."""
