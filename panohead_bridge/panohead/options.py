"""Options of the generators PanoHead and SphereHead."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from spinmeround.storage.records import FrozenParams

_Triple = tuple[float, float, float]


class PanoHeadOptions(FrozenParams):
    """Options of `make`. The first group sets paths and speed and changes no head; the second changes heads."""

    checkout: Path = Field(description="Folder of PanoHead's source code, or of SphereHead's")
    network: Path = Field(description="The checkpoint, a .pkl")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the checkpoint; any other file is refused"
    )
    trust: bool = Field(False, description="Run the code in any checkpoint at that path")
    python: Path | None = Field(
        None, description="Python of the environment in which PanoHead is installed; default: this one"
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: CUDA if available, otherwise the CPU"
    )
    threads: int | None = Field(None, ge=1, le=256, description="Threads on a CPU; default: as set in the environment")
    timeout_s: float = Field(
        900.0, gt=0.0, description="Longest time for one view, or for loading the network, in seconds"
    )

    name: str = Field("panohead", pattern="^[a-z][a-z0-9]*$", description="First part of the heads' ids")
    truncation_psi: float = Field(
        0.7, ge=0.0, le=2.0, description="Distance of heads from the mean head; 0 is the mean head"
    )
    truncation_cutoff: int | None = Field(14, ge=0, description="How many of the styles are truncated; default: all")
    conditioning_azimuth_deg: float = Field(
        0.0,
        ge=-180.0,
        le=180.0,
        description="Azimuth of the conditioning camera in degrees; PanoHead's --pose_cond minus 90",
    )
    conditioning_focal: float = Field(
        4.2647, gt=0.0, allow_inf_nan=False, description="Focal length of that camera, in units of the image's side"
    )
    neural_resolution: int | None = Field(
        None, ge=8, le=1024, description="Side of the ray-marched picture in pixels; default: the checkpoint's"
    )
    steps: int | None = Field(None, ge=4, le=1024, description="Samples along a ray; default: the checkpoint's")
    importance_steps: int | None = Field(
        None, ge=4, le=1024, description="Further samples near the surface; default: the checkpoint's"
    )
    learned_offset: bool = Field(
        False, description="Move the camera of each head by the offset that the network has learned"
    )
    half_precision: bool = Field(
        True, description="On CUDA, run the blocks trained in half precision in half precision"
    )
    code: Literal["pickle", "checkout"] = Field(
        "pickle", description="Which classes to use: the pickle's own, or the checkout's"
    )
    box_warp: float = Field(1.0, gt=0.0, allow_inf_nan=False, description="Side of the network's cube, in world units")
    landmarks: tuple[_Triple, _Triple, _Triple, _Triple, _Triple] | None = Field(
        None, description="Eyes, nose tip and mouth corners of every head, in the world frame; default: unknown"
    )

    def heads_digest(self) -> str:
        """SHA-256 of the options that change heads."""
        values = self.model_dump(mode="json", include=set(HEAD_OPTIONS))
        return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


class SphereHeadOptions(PanoHeadOptions):
    """Options of `make_spherehead`. SphereHead's own scripts load the weights into the classes of the checkout."""

    name: str = Field("spherehead", pattern="^[a-z][a-z0-9]*$", description="First part of the heads' ids")
    code: Literal["pickle", "checkout"] = Field(
        "checkout", description="Which classes to use: the pickle's own, or the checkout's"
    )


PLACE_OPTIONS = frozenset({"checkout", "network", "sha256", "trust", "python", "device", "threads", "timeout_s"})
"""Options that locate files and set the speed."""

HEAD_OPTIONS = frozenset(PanoHeadOptions.model_fields) - PLACE_OPTIONS
"""Options that change heads."""


class InversionOptions(FrozenParams):
    """Options of the search for a head in pictures; the defaults are those of pivotal tuning (Roich et al. 2021)."""

    steps: int = Field(500, ge=0, description="Steps that fit the latent w, from the mean of many")
    learning_rate: float = Field(0.1, gt=0.0, description="Learning rate of w, which rises and falls over the steps")
    samples: int = Field(1000, ge=2, description="Latents whose mean and deviation w begins with")
    tuning_steps: int = Field(350, ge=0, description="Steps that then fit the network's weights, with w fixed")
    tuning_rate: float = Field(3e-4, gt=0.0, description="Learning rate of the weights")
    mask_weight: float = Field(1.0, ge=0.0, description="Weight of the squared difference of the masks")
    vgg16: Path | None = Field(
        None, description="StyleGAN's TorchScript network vgg16.pt, for a perceptual distance; default: none"
    )
    perceptual_weight: float = Field(1.0, ge=0.0, description="Weight of the perceptual distance")
