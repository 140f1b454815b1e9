"""The frame of normal maps inside the model, and their rotation between it and the world.

    camera     the axes of each view's own camera (x right, y down, z forward)
    reference  the axes of the camera of the group's first view, to which the rays are relative too
    world      the world frame of `models.geometry.cameras`, in which datasets and outputs have their normals

A network that sees only relative poses cannot know the world frame, and a rigid motion of scene and cameras changes
world normals, but neither camera nor reference normals.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.params import NormalsFrame


def world2frame(frame: NormalsFrame, cam2world: Float[Tensor, "*group view 4 4"]) -> Float[Tensor, "*group view 3 3"]:
    """Rotations from the world into the frame of each view's normals; the views of a group in its order."""
    rotations = cam2world[..., :3, :3].mT
    if frame == "camera":
        return rotations
    first = rotations[..., :1, :, :] if frame == "reference" else torch.eye(3).to(rotations)
    return first.expand_as(rotations)


def turn_normals(
    normals: Float[Tensor, "*view 3 height width"], rotations: Float[Tensor, "*view 3 3"]
) -> Float[Tensor, "*view 3 height width"]:
    """The rotated vectors of normal maps; a background of zero remains zero."""
    return torch.einsum("...ij,...jhw->...ihw", rotations.to(normals), normals)
