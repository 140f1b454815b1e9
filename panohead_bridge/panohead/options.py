"""What can be set of PanoHead's heads."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field

from spinmeround.storage.records import FrozenModel

_Triple = tuple[float, float, float]


class PanoHeadOptions(FrozenModel):
    """Options of `make`. The first group says where things are and changes no head; the second changes heads."""

    checkout: Path = Field(description="Folder of PanoHead's source, or of SphereHead's")
    network: Path = Field(description="The checkpoint, a .pkl")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="The checkpoint's SHA-256: no other is run")
    trust: bool = Field(False, description="Run the code in whatever checkpoint is there")
    python: Path | None = Field(None, description="Another Python, that of the environment PanoHead was installed in")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto: CUDA where there is one")
    threads: int | None = Field(
        None, ge=1, le=256, description="Threads on a CPU; as the environment says if not given"
    )
    timeout_s: float = Field(900.0, gt=0.0, description="How long a view, or opening the network, may take")

    name: str = Field("panohead", pattern="^[a-z][a-z0-9]*$", description="First half of the heads' ids")
    truncation_psi: float = Field(0.7, ge=0.0, le=2.0, description="How far heads go from the mean one")
    truncation_cutoff: int | None = Field(
        14, ge=0, description="How many of the styles are truncated; all if not given"
    )
    conditioning_azimuth_deg: float = Field(
        0.0, ge=-180.0, le=180.0, description="Camera that heads are conditioned on; PanoHead's --pose_cond less 90"
    )
    conditioning_focal: float = Field(4.2647, gt=0.0, allow_inf_nan=False, description="That camera's focal length")
    neural_resolution: int | None = Field(
        None, ge=8, le=1024, description="Side of the ray-marched picture; as the checkpoint has it if not given"
    )
    steps: int | None = Field(None, ge=4, le=1024, description="Samples along a ray; as the checkpoint has it")
    importance_steps: int | None = Field(None, ge=4, le=1024, description="Further samples near the surface; likewise")
    learned_offset: bool = Field(False, description="Centre each head as the network has learned to move its camera")
    half_precision: bool = Field(True, description="On CUDA, blocks trained in half precision compute in it")
    code: Literal["pickle", "checkout"] = Field(
        "pickle", description="Whose classes: the pickle's own, or the checkout's"
    )
    box_warp: float = Field(1.0, gt=0.0, allow_inf_nan=False, description="Side of the network's cube, in world units")
    landmarks: tuple[_Triple, _Triple, _Triple, _Triple, _Triple] | None = Field(
        None, description="Where every head's eyes, nose tip and mouth corners are taken to be; else they are unknown"
    )

    def heads_digest(self) -> str:
        """Of the options that change heads."""
        values = self.model_dump(mode="json", include=set(HEAD_OPTIONS))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


PLACE_OPTIONS = frozenset({"checkout", "network", "sha256", "trust", "python", "device", "threads", "timeout_s"})
"""Where things are and how fast they go."""

HEAD_OPTIONS = frozenset(PanoHeadOptions.model_fields) - PLACE_OPTIONS
"""What the heads depend on."""
