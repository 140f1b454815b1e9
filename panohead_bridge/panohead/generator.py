"""PanoHead and SphereHead as generators. Their cameras, axes and density follow our conventions: nothing is converted.

PanoHead's cameras are `cam2world` with OpenCV axes, its horizontal angle is our azimuth plus 90 degrees, and its
renderer and its density function take the same world coordinates. A view depends only on the head and its camera: the
backbone uses the network's constant noise, and the sample positions along rays are drawn from the head's seed.

SphereHead's networks are PanoHead's, except for what lies between the backbone and the renderer: two spherical
tri-planes, made of the backbone's output, in place of three flat ones. So all of the above holds for them.
"""

import sys
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.panohead_bridge.panohead.checkout import commit_of, require_checkout, require_trust, source_digest
from spinmeround.panohead_bridge.panohead.options import (
    HEAD_OPTIONS,
    PLACE_OPTIONS,
    InversionOptions,
    PanoHeadOptions,
    SphereHeadOptions,
)
from spinmeround.panohead_bridge.panohead.process import CheckoutProcess
from spinmeround.panohead_bridge.protocol import Inversion
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Identity, Rendering

_REPORT_EVERY_S = 30.0


class PanoHead:
    """Heads of a PanoHead checkpoint (An et al. 2023).

    Cheap to construct: the network is loaded, in its own process, when the first head is requested.
    """

    _spherical: ClassVar[bool | None] = None
    """Whether its networks have spherical planes; None: either."""

    def __init__(self, options: PanoHeadOptions) -> None:
        """Raises ConfigError if the checkout or the checkpoint is missing, or the checkpoint is not the trusted one."""
        self.options = options
        self.name = options.name
        self.box_warp = options.box_warp
        self._checkout = require_checkout(options.checkout)
        self._network = options.network.expanduser().resolve()
        self._sha256 = require_trust(self._network, options.sha256, options.trust)
        self.fingerprint = (
            f"network:{self._sha256},source:{source_digest(self._checkout)[:16]},heads:{options.heads_digest()[:16]}"
        )

    @property
    def uses_gpu(self) -> bool:
        """Whether the network computes on a GPU, if there is one."""
        return self.options.device != "cpu"

    @property
    def provenance(self) -> dict[str, str]:
        """Origin of the heads, for the attributes of a dataset."""
        commit = commit_of(self._checkout)
        return {
            "network": self._network.name,
            "network_sha256": self._sha256,
            **({"source_commit": commit} if commit else {}),
            "source_sha256": source_digest(self._checkout),
        }

    @cached_property
    def _process(self) -> CheckoutProcess:
        options, opening = self.options, self.options.model_dump(mode="json", include=set(HEAD_OPTIONS))
        opening |= {"network": str(self._network), "sha256": self._sha256, "device": options.device}
        opening |= {"spherical": self._spherical}
        return CheckoutProcess(
            self._checkout,
            python=options.python,
            threads=options.threads,
            timeout_s=options.timeout_s,
            opening=opening,
        )

    @cached_property
    def _about(self) -> dict[str, Any]:
        return dict(self._process.opened())

    def sample(self, seed: int) -> Identity:
        """The head of this seed, as PanoHead's scripts draw it."""
        if not 0 <= seed < 2**32:
            raise ConfigError(f"plan: expected seeds from 0 to {2**32 - 1}, as PanoHead takes them, found {seed}")
        latent = np.random.RandomState(seed).randn(1, self._about["latent"])[0]
        return Identity(seed=seed, latent=latent.astype(np.float32))

    def render(self, identity: Identity, cameras: Cameras, resolution: int) -> Rendering:
        """Pictures from all cameras on white, downscaled from the network's own size.

        `depth` is the mean depth along each ray, at the resolution of the ray marching, of pixels whose mask is above
        a half.
        """
        self._check_view(cameras, resolution)
        answer = self._process.call(
            "views",
            {"seed": identity.seed, "resolution": resolution},
            {"latent": identity.latent, "cam2world": cameras.cam2world, "intrinsics": cameras.intrinsics},
            progress=_ProgressLines(f"{self.name}-{identity.seed:06d}"),
        )
        return Rendering(rgb=answer.arrays["rgb"], mask=answer.arrays["mask"], depth=answer.arrays["depth"])

    def invert(
        self,
        rgb: UInt8[np.ndarray, "view height width 3"],
        mask: UInt8[np.ndarray, "view height width"],
        cameras: Cameras,
        targets: Cameras,
        options: Mapping[str, Any],
    ) -> Inversion:
        """Pivotal tuning inversion (see `inversion.py`); the network is left as it was. There are no normals."""
        chosen, resolution = InversionOptions(**options), rgb.shape[1]
        for each in (cameras, targets):
            self._check_view(each, resolution)
        if chosen.vgg16 is not None and not chosen.vgg16.is_file():
            raise ConfigError(f"--option vgg16={chosen.vgg16}: expected a TorchScript file, found none")
        values = chosen.model_dump(mode="json") | {"resolution": resolution, "seed": 0}
        arrays = {"rgb": rgb, "mask": mask, "cam2world": cameras.cam2world, "intrinsics": cameras.intrinsics}
        arrays |= {"target_cam2world": targets.cam2world, "target_intrinsics": targets.intrinsics}
        answer = self._process.call("invert", values, arrays, progress=_ProgressLines("inversion", "step"))
        found = Rendering(**{name: answer.arrays[name] for name in ("rgb", "mask", "depth")})
        return Inversion(rendering=found, normals=None, error=float(answer.values["error"]))

    def density(self, identity: Identity, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, " point"]:
        """Raw sigma at points in the world frame; -1000 outside the cube."""
        answer = self._process.call("density", {}, {"latent": identity.latent, "points": points})
        return answer.arrays["sigma"]

    def landmarks(self, identity: Identity) -> Float32[np.ndarray, "5 3"] | None:
        """The landmarks set in the options, the same for all heads; None without them, since PanoHead has none."""
        if self.options.landmarks is None:
            return None
        return np.asarray(self.options.landmarks, np.float32)

    def close(self) -> None:
        """End the checkout's process; the next request starts it again."""
        self._process.close()

    def _check_view(self, cameras: Cameras, resolution: int) -> None:
        if resolution > self._about["resolution"]:
            raise ConfigError(
                f"render.resolution, sample.resolution: expected at most {self._about['resolution']}, the side of this "
                f"network's pictures, found {resolution}"
            )
        near, far = self._about["near"], self._about["far"]
        distances = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=-1)
        if near is not None and far is not None and not ((near < distances) & (distances < far)).all():
            raise ConfigError(
                f"views.radius: expected cameras whose rays pass the head between {near:g} and {far:g}, where this "
                f"network renders, found distances from {distances.min():g} to {distances.max():g}"
            )


class SphereHead(PanoHead):
    """Heads of a SphereHead checkpoint (Li et al. 2024)."""

    _spherical = True


class _ProgressLines:
    """Progress of a slow call, a line on standard error every 30 s."""

    def __init__(self, head: str, unit: str = "view") -> None:
        self._head, self._unit = head, unit
        self._began = self._reported = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._reported >= _REPORT_EVERY_S:
            self._reported = now
            each = (now - self._began) / done
            print(f"{self._head}: {self._unit} {done} of {total}, {each:.1f} s each", file=sys.stderr, flush=True)


def make(**options: Any) -> PanoHead:
    """The factory that a profile names as `panohead`."""
    return PanoHead(PanoHeadOptions(**options))


make.place_options = PLACE_OPTIONS  # type: ignore[attr-defined]


def make_spherehead(**options: Any) -> SphereHead:
    """The factory that a profile names as `spherehead`."""
    return SphereHead(SphereHeadOptions(**options))


make_spherehead.place_options = PLACE_OPTIONS  # type: ignore[attr-defined]
