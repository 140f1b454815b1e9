"""Camera rays as input channels of the network, one ray per latent pixel.

Rays are in the frame of a reference view (the first conditioning view, or the first target without conditioning views),
so that a rigid motion of scene and cameras changes nothing. Cameras follow `models.geometry.cameras`: `cam2world` with
OpenCV axes, `intrinsics` normalised by the image side, pixel centres at (i + 0.5) / resolution. Computed in float64,
because the highest frequency of the origins is 2^14 radians per unit.

Encodings and their channels:
    3dim          144  origin (93) and direction (51), raw and sinusoidal, as in 3DiM (Watson et al. 2022)
    spinmeround   149  3dim, then sin and cos of relative azimuth and of relative elevation, log ratio of radii
    plucker         6  unit direction d and moment o x d
"""

from typing import get_args

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from spinmeround.models.diffusion.params import RayEncoding

ORIGIN_DEGREES = 15
DIRECTION_DEGREES = 8
_CHANNELS: dict[str, int] = {"spinmeround": 149, "3dim": 144, "plucker": 6}


def ray_channels(encoding: str) -> int:
    """Number of channels of an encoding; raises ValueError for an unknown one."""
    if encoding not in _CHANNELS:
        raise ValueError(f"ray encoding: expected one of {', '.join(get_args(RayEncoding))}, got {encoding!r}")
    return _CHANNELS[encoding]


def reference_view(is_conditioning: Bool[Tensor, "batch view"]) -> Int64[Tensor, " batch"]:
    """Index of the first conditioning view of each sample, 0 for a sample without one."""
    return is_conditioning.int().argmax(dim=1)


def encode_rays(
    cam2world: Float[Tensor, "batch view 4 4"],
    intrinsics: Float[Tensor, "batch view 3 3"],
    *,
    reference: Int64[Tensor, " batch"],
    resolution: int,
    encoding: RayEncoding = "spinmeround",
    centre: Float[Tensor, "batch 3"] | None = None,
) -> Float32[Tensor, "batch view channel height width"]:
    """Encoded rays through the centres of `resolution` x `resolution` pixels.

    `reference` is the index of the view that sets the frame. `centre`, in world coordinates, is the point about which
    `spinmeround` measures azimuth, elevation and radius: the head's centre, by default the world origin.
    Raises ValueError for an unknown encoding.
    """
    ray_channels(encoding)
    pose, centre_in_reference = _in_reference_frame(cam2world.double(), reference, centre)
    origins = pose[..., :3, 3]  # batch view 3
    directions = _pixel_directions(pose[..., :3, :3], intrinsics.double(), resolution)
    if encoding == "plucker":
        moments = torch.linalg.cross(origins[:, :, None, None].expand_as(directions), directions)
        rays = torch.cat([directions, moments], dim=-1)
    else:
        parts = [_at_pixels(sinusoids(origins, ORIGIN_DEGREES), resolution), sinusoids(directions, DIRECTION_DEGREES)]
        if encoding == "spinmeround":
            parts.append(_at_pixels(_orbit_angles(origins, centre_in_reference, reference), resolution))
        rays = torch.cat(parts, dim=-1)
    return rearrange(rays, "b p h w c -> b p c h w").float()


def sinusoids(x: Float[Tensor, "*shape 3"], degrees: int) -> Float[Tensor, "*shape {3+6*degrees}"]:
    """x, sin(2^k x) and cos(2^k x) for k = 0 to degrees - 1: NeRF's encoding without the factor pi, as in 3DiM."""
    scales = 2.0 ** torch.arange(degrees, dtype=x.dtype, device=x.device)
    angles = rearrange(x[..., None, :] * scales[:, None], "... k c -> ... (k c)")
    return torch.cat([x, angles.sin(), angles.cos()], dim=-1)


def _at_pixels(
    x: Float64[Tensor, "batch view channel"], side: int
) -> Float64[Tensor, "batch view {side} {side} channel"]:
    return repeat(x, "b p c -> b p h w c", h=side, w=side)


def _in_reference_frame(
    cam2world: Float64[Tensor, "batch view 4 4"],
    reference: Int64[Tensor, " batch"],
    centre: Float[Tensor, "batch 3"] | None,
) -> tuple[Float64[Tensor, "batch view 4 4"], Float64[Tensor, "batch 3"]]:
    """Camera-to-reference poses and the centre, in the frame of each sample's reference camera."""
    samples = torch.arange(len(cam2world), device=reference.device)
    world2reference = torch.linalg.inv(cam2world[samples, reference])  # batch 4 4
    world_centre = cam2world.new_zeros(len(cam2world), 3) if centre is None else centre.double()
    moved = torch.einsum("bij,bj->bi", world2reference[:, :3, :3], world_centre) + world2reference[:, :3, 3]
    return torch.einsum("bij,bpjk->bpik", world2reference, cam2world), moved


def _pixel_directions(
    rotation: Float64[Tensor, "batch view 3 3"], intrinsics: Float64[Tensor, "batch view 3 3"], resolution: int
) -> Float64[Tensor, "batch view height width 3"]:
    """Unit directions of the rays through all pixel centres."""
    centres = (torch.arange(resolution, dtype=rotation.dtype, device=rotation.device) + 0.5) / resolution
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # height width 3
    directions = torch.einsum("bpij,bpjk,hwk->bphwi", rotation, torch.linalg.inv(intrinsics), pixels)
    return torch.nn.functional.normalize(directions, dim=-1)


def _orbit_angles(
    origins: Float64[Tensor, "batch view 3"],
    centre: Float64[Tensor, "batch 3"],
    reference: Int64[Tensor, " batch"],
) -> Float64[Tensor, "batch view 5"]:
    """sin and cos of azimuth, sin and cos of elevation, log ratio of radii, relative to the reference camera.

    Angles are about the centre, in the reference camera's axes: azimuth increases to its right, elevation upwards. Both
    are 0 for the reference itself if it looks at the centre.
    """
    x, y, z = (origins - centre[:, None]).unbind(-1)  # batch view, OpenCV axes
    azimuth, elevation = torch.atan2(x, -z), torch.atan2(-y, torch.hypot(x, z))
    radius = torch.sqrt(x.square() + y.square() + z.square())
    log_ratio = (radius / radius[torch.arange(len(radius), device=reference.device), reference, None]).log()
    return torch.stack([azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos(), log_ratio], dim=-1)
