"""Splats as a .ply file in the layout of 3DGS, which the common viewers of splats open.

One vertex for each Gaussian, little-endian floats: x y z nx ny nz f_dc_0..2 f_rest_0.. opacity scale_0..2 rot_0..3.
Opacities are logits, scales logarithms, rotations (w, x, y, z). `f_rest` holds the higher harmonics channel by channel.
Normals are zero, as 3DGS writes them.
"""

import io

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32
from torch import Tensor

from spinmeround.models.reconstruction.gaussians import Gaussians
from spinmeround.storage.numbers import check_arrays


def property_names(degree: int) -> list[str]:
    """The properties of a vertex, in order."""
    rest = [f"f_rest_{number}" for number in range(3 * ((degree + 1) ** 2 - 1))]
    harmonics = [*(f"f_dc_{channel}" for channel in range(3)), *rest]
    shape = [*(f"scale_{axis}" for axis in range(3)), *(f"rot_{number}" for number in range(4))]
    return ["x", "y", "z", "nx", "ny", "nz", *harmonics, "opacity", *shape]


def splat_table(gaussians: Gaussians) -> Float32[np.ndarray, "gaussian property"]:
    """The values of the vertices. Quaternions have unit length. Raises SpinMeRoundError for NaN or infinity."""
    columns = [
        gaussians.means,
        torch.zeros_like(gaussians.means),
        gaussians.harmonics[:, 0],
        rearrange(gaussians.harmonics[:, 1:], "gaussian basis colour -> gaussian (colour basis)"),
        gaussians.opacity_logits[:, None],
        gaussians.log_scales,
        torch.nn.functional.normalize(gaussians.quaternions, dim=-1),
    ]
    table = torch.cat(columns, dim=-1).detach().cpu().numpy().astype(np.float32)
    check_arrays("splats", {"gaussians": table})
    return table


def splat_file(gaussians: Gaussians) -> bytes:
    """The content of the .ply file."""
    properties = "".join(f"property float {name}\n" for name in property_names(gaussians.degree))
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(gaussians)}\n{properties}end_header\n"
    return header.encode("ascii") + splat_table(gaussians).astype("<f4").tobytes()


def read_splats(data: bytes) -> Gaussians:
    """The Gaussians of a file that `splat_file` has written."""
    reader = io.BytesIO(data)
    lines: list[str] = []
    while not lines or lines[-1] != "end_header":
        lines.append(reader.readline().decode("ascii").strip())
    names = [line.split()[-1] for line in lines if line.startswith("property")]
    basis = (len(names) - 14) // 3
    table = torch.from_numpy(np.frombuffer(reader.read(), "<f4").reshape(-1, len(names)).astype(np.float32))
    rest = rearrange(table[:, 9 : 6 + 3 * basis], "gaussian (colour basis) -> gaussian basis colour", colour=3)
    tail: Tensor = table[:, 6 + 3 * basis :]
    return Gaussians(
        means=table[:, :3],
        quaternions=tail[:, 4:],
        log_scales=tail[:, 1:4],
        opacity_logits=tail[:, 0],
        harmonics=torch.cat([table[:, None, 6:9], rest], dim=1),
    )
