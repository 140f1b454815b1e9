"""The procedural head that pictures show: the most probable latent, by least squares.

The latent z minimises |r(z)|^2 / pixel_deviation^2 + |z|^2, with r the difference of the colours and masks of the given
pictures and of the head's. The second term is the prior, standard normal numbers. The search begins with the best of
some random heads and continues with Gauss-Newton steps in a trust region (`scipy.optimize.least_squares`). Derivatives
are finite differences, since neither the tracing of the surface nor the choice of a hat has any.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, UInt8
from pydantic import Field

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE
from spinmeround.storage.records import FrozenParams, Identity, Rendering

Render = Callable[[Identity, Cameras, int, int], Rendering]
"""Pictures of a head at a resolution, on a grid of so many cells."""


class FitOptions(FrozenParams):
    """Options of the fit."""

    side: int = Field(32, ge=8, description="Side of the compared pictures, in pixels; that of larger ones is reduced")
    cells: int = Field(64, ge=32, description="Cells of the surface's grid along the cube's side")
    candidates: int = Field(100, ge=1, description="Random heads, of which the closest is the beginning")
    steps: int = Field(8, ge=0, description=f"Steps, each of which renders {LATENT_SIZE + 1} heads")
    difference: float = Field(0.1, gt=0.0, description="Finite difference of a number of the latent")
    pixel_deviation: float = Field(
        0.5, gt=0.0, description="Standard deviation of a pixel, from 0 to 1; a smaller one trusts the pictures more"
    )


class Fit:
    """The search for the head in given pictures; `seed` is that of the random heads."""

    def __init__(
        self,
        render: Render,
        rgb: UInt8[np.ndarray, "view height width 3"],
        mask: UInt8[np.ndarray, "view height width"],
        cameras: Cameras,
        options: FitOptions,
        seed: int = 0,
    ) -> None:
        self._render, self._cameras, self._options = render, cameras, options
        self._side = min(options.side, rgb.shape[1])
        self._given = _pixels(rgb, mask, self._side)
        self._rng = np.random.default_rng(seed)

    def __call__(self) -> Identity:
        """The most probable head found."""
        from scipy.optimize import least_squares

        start = self._closest_candidate()
        if not self._options.steps:
            return _identity(start)
        found = least_squares(self._residuals, start, self._jacobian, max_nfev=self._options.steps)
        return _identity(found.x)

    def error(self, identity: Identity) -> float:
        """Root mean square difference of the colours and masks."""
        return float(np.sqrt(np.square(self._difference(identity.latent)).mean()))

    def _closest_candidate(self) -> Float64[np.ndarray, " latent"]:
        drawn = self._rng.standard_normal((self._options.candidates, LATENT_SIZE))
        drawn[0] = 0.0  # the mean head
        return np.asarray(min(drawn, key=lambda latent: float(np.square(self._difference(latent)).sum())))

    def _difference(self, latent: np.ndarray) -> Float64[np.ndarray, " value"]:
        rendered = self._render(_identity(latent), self._cameras, self._side, self._options.cells)
        return np.asarray(_pixels(rendered.rgb, rendered.mask, self._side) - self._given)

    def _residuals(self, latent: Float64[np.ndarray, " latent"]) -> Float64[np.ndarray, " residual"]:
        return np.concatenate([self._difference(latent) / self._options.pixel_deviation, latent])

    def _jacobian(self, latent: Float64[np.ndarray, " latent"]) -> Float64[np.ndarray, "residual latent"]:
        step, here = self._options.difference, self._residuals(latent)
        moved = (latent + step * axis for axis in np.eye(LATENT_SIZE))
        return np.stack([(self._residuals(each) - here) / step for each in moved], axis=1)


def _identity(latent: np.ndarray) -> Identity:
    return Identity(seed=0, latent=latent.astype(np.float32))


def _pixels(
    rgb: UInt8[np.ndarray, "view height width 3"], mask: UInt8[np.ndarray, "view height width"], side: int
) -> Float64[np.ndarray, " value"]:
    """Colours and mask from 0 to 1 at this side, flat; the pixels of a reduced picture are means over their areas."""
    import cv2

    views = np.concatenate([rgb, mask[..., None]], axis=-1) / 255.0
    reduced = [cv2.resize(view, (side, side), interpolation=cv2.INTER_AREA) for view in views]
    return np.asarray(np.stack(reduced), np.float64).ravel()
