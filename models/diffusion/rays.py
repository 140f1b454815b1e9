"""Camera rays as input channels of the network, one ray per latent pixel.

Rays are in the frame of a reference view (the first conditioning view, or the first target without conditioning views),
so that a rigid motion of scene and cameras changes nothing. Cameras follow `models.geometry.cameras`: `cam2world` with
OpenCV axes, `intrinsics` normalised by the image side, pixel centres at (i + 0.5) / resolution.

What is computed once per view is in float64, because the highest frequency of the origins is 2^14 radians per unit;
so are the three coordinates of a pixel's direction, on the device of the result, if it has float64. Their sinusoids,
nearly all of the work, are in float32, where they differ from float64 by less than 1e-5: the highest frequency of a
direction is 2^7. Nothing is kept from step to step: the encoded rays of all pairs of 125 views would take 38 GB.

Encodings and their channels:
    3dim          144  origin (93) and direction (51), raw and sinusoidal, as in 3DiM (Watson et al. 2022)
    spinmeround   149  3dim, then sin and cos of relative azimuth and of relative elevation, log ratio of radii
    plucker         6  unit direction d and moment o x d
"""

from typing import get_args

import torch
from einops import rearrange
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
    device: torch.device | None = None,
) -> Float32[Tensor, "batch view channel height width"]:
    """Encoded rays through the centres of `resolution` x `resolution` pixels, on `device`, by default the cameras'.

    `reference` is the index of the view that sets the frame. `centre`, in world coordinates, is the point about which
    `spinmeround` measures azimuth, elevation and radius: the head's centre, by default the world origin.
    Raises ValueError for an unknown encoding.
    """
    device, shape = device or cam2world.device, (*cam2world.shape[:2], ray_channels(encoding), resolution, resolution)
    pose, centre_in_reference = _in_reference_frame(cam2world.double(), reference, centre)
    origins = pose[..., :3, 3]  # batch view 3
    exact = cam2world.device if device.type == "mps" else device  # Apple's GPUs lack float64
    rotations = pose[..., :3, :3].to(exact)
    directions = _pixel_directions(rotations, intrinsics.double().to(exact), resolution)  # batch view 3 height width
    rays = torch.empty(shape, device=device)
    if encoding == "plucker":
        moments = torch.linalg.cross(origins.to(exact)[..., None, None].expand_as(directions), directions, dim=2)
        rays[:, :, :3], rays[:, :, 3:] = directions, moments
        return rays
    per_view = sinusoids(origins, ORIGIN_DEGREES)
    first, last = per_view.shape[-1], per_view.shape[-1] + 3 + 6 * DIRECTION_DEGREES
    rays[:, :, :first] = per_view.to(device, torch.float32)[..., None, None]
    rays[:, :, first:last] = sinusoids(directions.to(device, torch.float32), DIRECTION_DEGREES, dim=2)
    if encoding == "spinmeround":
        angles = _orbit_angles(origins, centre_in_reference, reference)
        rays[:, :, last:] = angles.to(device, torch.float32)[..., None, None]
    return rays


def sinusoids(x: Float[Tensor, "..."], degrees: int, dim: int = -1) -> Float[Tensor, "..."]:
    """x, sin(2^k x) and cos(2^k x) for k = 0 to degrees - 1, along the axis `dim` of x: NeRF's encoding without the
    factor pi, as in 3DiM."""
    angles = torch.cat([x * 2.0**k for k in range(degrees)], dim=dim)
    return torch.cat([x, angles.sin(), angles.cos()], dim=dim)


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
) -> Float64[Tensor, "batch view 3 height width"]:
    """Unit directions of the rays through all pixel centres."""
    centres = (torch.arange(resolution, dtype=rotation.dtype, device=rotation.device) + 0.5) / resolution
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)  # 3 height*width
    directions = torch.nn.functional.normalize(rotation @ torch.linalg.inv(intrinsics) @ pixels, dim=2)
    return rearrange(directions, "b p c (h w) -> b p c h w", h=resolution)


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
