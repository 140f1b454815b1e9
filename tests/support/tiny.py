"""A generator for tests: ellipsoids, rendered in a millisecond, with faults on request.

The seed determines the half axes of the ellipsoid and its colour.
"""

import logging
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras, pixel_rays
from spinmeround.panohead_bridge.procedural.options import Defect
from spinmeround.storage.records import Identity, Rendering

_logger = logging.getLogger("spinmeround.tests.tiny")


class TinyGenerator:
    """Ellipsoids with injected faults.

    `failing` seeds raise in `render`, until the file `cure` exists; `dying` ones kill their process there, once for
    each file that `memory` does not hold yet; `hanging` ones never come back; `exhausting` ones run out of memory.
    `clipped` seeds leave the box, so that the screen drops them. `faceless` ones are white in every picture. `needs`
    names a module whose import fails in `render`. `delay_s` is how long each rendering takes.
    `calls`, a folder, gets a file for each rendering, which begins with the seed and the number of views.
    """

    name = "tiny"
    fingerprint = "tiny-1"
    box_warp = 1.0

    def __init__(
        self,
        failing=(),
        dying=(),
        hanging=(),
        clipped=(),
        faceless=(),
        exhausting=(),
        needs="",
        delay_s=0.0,
        memory=None,
        cure=None,
        calls=None,
    ) -> None:
        self.failing, self.dying, self.hanging, self.clipped = failing, dying, hanging, clipped
        self.faceless, self.exhausting, self.needs = faceless, exhausting, needs
        self.delay_s = delay_s
        self.memory = Path(memory) if memory else None
        self.cure = Path(cure) if cure else None
        self.calls = Path(calls) if calls else None

    def sample(self, seed: int) -> Identity:
        latent = np.random.default_rng([7, seed]).standard_normal(6).astype(np.float32)
        return Identity(seed=seed, latent=latent)

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        if self.calls is not None:
            tempfile.mkstemp(prefix=f"{identity.seed}-{len(cameras)}-", dir=self.calls)
        _logger.info("renders seed %d", identity.seed)
        self._misbehave(identity.seed)
        axes = self._axes(identity)
        origins, directions = pixel_rays(cameras, resolution)
        o, d = origins / axes, directions / axes
        a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.0
        root = b * b - a * c
        hit = root > 0
        distance = np.where(hit, (-b - np.sqrt(np.maximum(root, 0))) / a, np.nan).astype(np.float32)
        forward = cameras.cam2world[:, None, None, :3, 2]
        colour = 60 + 150 / (1 + np.exp(-identity.latent[3:]))
        point = origins + directions * np.nan_to_num(distance)[..., None]
        shade = np.clip(0.7 + point[..., 2:] / axes[2] * 0.3, 0, 1)
        rgb = np.where(hit[..., None], colour * shade, 255.0)
        if identity.seed in self.faceless:
            rgb = np.where(hit[..., None], 254.0, 255.0) * np.ones(3)
        return Rendering(
            rgb=rgb.round().astype(np.uint8),
            mask=(hit * 255).astype(np.uint8),
            depth=distance * (directions * forward).sum(-1).astype(np.float32),
        )

    def density(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        inside = 1.0 - np.linalg.norm(points / self._axes(identity), axis=-1)
        return np.clip(10.0 + 50.0 * inside, 0.0, 20.0).astype(np.float32)

    def landmarks(self, identity: Identity) -> Float32[np.ndarray, "5 3"]:
        directions = np.array([[-0.3, 0.3, 1], [0.3, 0.3, 1], [0, 0, 1], [-0.25, -0.4, 1], [0.25, -0.4, 1]])
        directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        return (directions * self._axes(identity)).astype(np.float32)

    def defect(self, identity: Identity) -> Defect | None:
        """Clipped heads are defective."""
        return Defect(kind="clipped volume", strength=1.0) if identity.seed in self.clipped else None

    def _axes(self, identity: Identity) -> Float32[np.ndarray, "3"]:
        axes = 0.25 + 0.03 * np.tanh(identity.latent[:3])
        return (axes * (2.4 if identity.seed in self.clipped else 1.0)).astype(np.float32)

    def _misbehave(self, seed: int) -> None:
        time.sleep(self.delay_s)
        if self.needs:
            raise ModuleNotFoundError(name=self.needs)
        if seed in self.failing and not (self.cure and self.cure.exists()):
            raise RuntimeError(f"seed {seed} has no nose")
        if seed in self.exhausting:
            raise MemoryError("Unable to allocate 7.11 PiB")
        if seed in self.hanging:
            time.sleep(3600)
        if seed in self.dying and (self.memory is None or not (self.memory / str(seed)).exists()):
            if self.memory is not None:
                (self.memory / str(seed)).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def make(**options) -> TinyGenerator:
    """The factory that a profile names as `tests.support.tiny:make`."""
    return TinyGenerator(**options)
