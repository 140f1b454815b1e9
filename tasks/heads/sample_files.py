"""Files of the sample stage's artifact; every reader and writer of them uses this module.

- `identity.npz`: seed, latent and, if the generator knows them, landmarks (5, 3) in the world frame.
- `preview.npz`: rgb, mask and depth of the previews, and their cameras (cam2world, intrinsics, azimuth, elevation).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.records import Identity, Rendering

_IDENTITY, _PREVIEWS = "identity.npz", "preview.npz"


@dataclass(frozen=True, kw_only=True)
class Previews:
    """Small renderings of a head on a ring, and their cameras."""

    rendering: Rendering
    cameras: Cameras


def write_identity(folder: Path, identity: Identity, landmarks: Float32[np.ndarray, "5 3"] | None) -> None:
    """Write the identity of a head, and the generator's landmarks if it knows them."""
    arrays = {"seed": np.asarray(identity.seed), "latent": identity.latent}
    if landmarks is not None:
        arrays["landmarks"] = landmarks
    np.savez(folder / _IDENTITY, **arrays)  # type: ignore[arg-type]  # numpy's stubs confuse it with allow_pickle


def load_identity(folder: Path) -> Identity:
    """The identity in a sample artifact."""
    with np.load(folder / _IDENTITY, allow_pickle=False) as arrays:
        return Identity(seed=int(arrays["seed"]), latent=arrays["latent"])


def load_landmarks(folder: Path) -> Float32[np.ndarray, "5 3"] | None:
    """The generator's landmarks in a sample artifact; None if the generator does not know them."""
    with np.load(folder / _IDENTITY, allow_pickle=False) as arrays:
        landmarks: np.ndarray | None = arrays.get("landmarks")
    return landmarks


def write_previews(folder: Path, previews: Previews) -> None:
    """Write the previews of a head."""
    rendering, cameras = previews.rendering, previews.cameras
    np.savez(
        folder / _PREVIEWS,
        rgb=rendering.rgb,
        mask=rendering.mask,
        depth=rendering.depth,
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=cameras.azimuth_deg,
        elevation=cameras.elevation_deg,
    )


def load_previews(folder: Path) -> Previews:
    """The previews in a sample artifact."""
    with np.load(folder / _PREVIEWS, allow_pickle=False) as arrays:
        return Previews(
            rendering=Rendering(rgb=arrays["rgb"], mask=arrays["mask"], depth=arrays["depth"]),
            cameras=Cameras(
                cam2world=arrays["cam2world"],
                intrinsics=arrays["intrinsics"],
                azimuth_deg=arrays["azimuth"],
                elevation_deg=arrays["elevation"],
            ),
        )
