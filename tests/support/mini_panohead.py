"""A miniature PanoHead checkout: the same module names and call signatures, with a ball as head.

The ball lies off every axis, so a mirrored or rotated world is detected. Files in the checkout inject faults: `die`
(number of crashes left in `synthesis`), `exhaust` and `hang`. `calls.jsonl` records the arguments of every call.

A `spherical` one is a miniature of SphereHead: two layers between the planes and the head, and a
renderer that reads them.
"""

import json
import pickle
import subprocess
import sys
from pathlib import Path

CENTRE = (0.15, 0.08, 0.12)
RADIUS = 0.12
OFFSET = (0.05, -0.03, 0.02)
BACKGROUND = (1.0, -1.0, -1.0)
LATENT = 8
SIDE = 64
SPHERICAL = False

_TRIPLANE = """
import json, os, pathlib, time
import torch

HERE = pathlib.Path(__file__).parents[1]
SPHERICAL = @SPHERICAL@


def record(what, **how):
    with open(HERE / "calls.jsonl", "a") as file:
        file.write(json.dumps({"what": what, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), **how}) + "\\n")


def misbehave():
    left = int((HERE / "die").read_text()) if (HERE / "die").exists() else 0
    if left:
        (HERE / "die").write_text(str(left - 1))
        print("the planes have crashed", flush=True)
        os.kill(os.getpid(), 9)
    if (HERE / "exhaust").exists():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    while (HERE / "hang").exists():
        time.sleep(0.05)


class Planes(torch.nn.Module):
    def forward(self, ws, update_emas=False, noise_mode="random", force_fp32=False):
        record("planes", noise_mode=noise_mode, force_fp32=force_fp32)
        jitter = torch.randn_like(ws) if noise_mode == "random" else 0.0
        return ws + jitter


class Backbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.synthesis = Planes()


class Shift(torch.nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = torch.nn.Parameter(torch.tensor(by))

    def forward(self, planes):
        return 2 * planes + self.by


class Last(torch.nn.Module):
    bias_gain = 1.0

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1, 1), 100.0))
        self.bias = torch.nn.Parameter(torch.full((1,), 10.0))

    def forward(self, inside):
        return inside[..., None] @ self.weight.T + self.bias * self.bias_gain


class Decoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(Last())


class TriPlaneGenerator(torch.nn.Module):
    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, rendering_kwargs={}, **others):
        super().__init__()
        self.init_args, self.init_kwargs = (z_dim, c_dim, w_dim, img_resolution, img_channels), {
            "rendering_kwargs": rendering_kwargs, **others}
        self.z_dim, self.c_dim, self.img_resolution = z_dim, c_dim, img_resolution
        self.rendering_kwargs = rendering_kwargs
        self.neural_rendering_resolution = 64
        self.backbone, self.decoder = Backbone(), Decoder()
        self.tint = torch.nn.Parameter(torch.zeros(3))
        if SPHERICAL:
            self.ConvA, self.ConvB = Shift(0.25), Shift(0.5)
        self._last_planes = None

    def mapping(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False):
        record("mapping", label=c[0].tolist(), psi=truncation_psi, cutoff=truncation_cutoff)
        return (z * truncation_psi)[:, None].repeat(1, 2, 1)

    def apply_delta_c(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False):
        delta = torch.tensor([@OFFSET@])
        return c, delta

    def forward(self, *args, **kwargs):
        raise RuntimeError("forward moves the camera")

    def ball(self, planes):
        if SPHERICAL:
            planes = (self.ConvA(planes) + self.ConvB(planes)) / 2
        return torch.tensor(@CENTRE@), @RADIUS@ + 0.01 * torch.tanh(planes[0, 0, 0])

    def synthesis(self, ws, c, neural_rendering_resolution=None, update_emas=False, ws_bcg=None,
                  cache_backbone=False, use_cached_backbone=False, **synthesis_kwargs):
        misbehave()
        if neural_rendering_resolution is None:
            neural_rendering_resolution = self.neural_rendering_resolution
        self.neural_rendering_resolution = side = neural_rendering_resolution
        planes = self._last_planes
        if not use_cached_backbone or planes is None:
            planes = self.backbone.synthesis(ws, **synthesis_kwargs)
        centre, radius = self.ball(planes)
        pose, intrinsics = c[0, :16].view(4, 4), c[0, 16:].view(3, 3)
        middle = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(intrinsics).T
        rays = torch.nn.functional.normalize(pixels @ pose[:3, :3].T, dim=-1)
        towards = centre - pose[:3, 3]
        along = (rays * towards).sum(-1)
        miss = (towards.square().sum() - along.square()).clamp_min(0).sqrt()
        weights = torch.sigmoid((radius - miss) / 0.004)
        depth = along - (radius**2 - miss**2).clamp_min(0).sqrt()
        depth = depth + 0.002 * torch.rand_like(depth)
        colour = 2 * (pose[:3, 3] + depth[..., None] * rays) - 0.4 * torch.rand(side, side, 1) + self.tint
        features = colour * weights[..., None] + (1 - weights[..., None]) * torch.tensor(@BACKGROUND@)
        image = features.permute(2, 0, 1)[None]
        image = torch.nn.functional.interpolate(image, size=(self.img_resolution,) * 2, mode="nearest")
        return {"image": image, "image_raw": features, "image_depth": depth[None, None],
                "image_mask": weights[None, None] * (1 + 2 * 0.001) - 0.001}

    def sample_mixed(self, coordinates, directions, ws, truncation_psi=1, truncation_cutoff=None, update_emas=False,
                     **synthesis_kwargs):
        centre, radius = self.ball(self.backbone.synthesis(ws, **synthesis_kwargs))
        sigma = self.decoder.net(radius - (coordinates - centre).norm(dim=-1))
        return {"sigma": sigma + torch.randn_like(sigma) * self.rendering_kwargs.get("density_noise", 0)}
"""

_LEGACY = """
import pickle

print("legacy prints to standard output")


def load_network_pkl(file):
    return pickle.load(file)
"""

_MISC = """
def copy_params_and_buffers(source, target, require_all=False):
    target.load_state_dict(source.state_dict())
"""

_OPERATION = """
def _init():
    raise RuntimeError("nvcc is missing")
"""

_PICKLER = """
import pickle, sys
sys.path[0] = sys.argv[1]
from training.triplane import TriPlaneGenerator
rendering = {"ray_start": 2.25, "ray_end": 3.3, "box_warp": 1, "avg_camera_radius": 2.7, "density_noise": 0.5,
             "depth_resolution": 48, "depth_resolution_importance": 48}
network = TriPlaneGenerator(@LATENT@, 25, 8, @SIDE@, 3, rendering_kwargs=rendering)
pickle.dump({"G": network, "D": network, "G_ema": network}, open(sys.argv[2], "wb"))
"""


def _filled(text: str, **changed: object) -> str:
    for name in ("SPHERICAL", "CENTRE", "RADIUS", "OFFSET", "BACKGROUND", "LATENT", "SIDE"):
        text = text.replace(f"@{name}@", repr(changed.get(name.lower(), globals()[name])))
    return text


def write_checkout(folder: Path, **ball: object) -> Path:
    """Write the source tree into `folder`; `centre` and `radius` override the ball, `spherical` the kind of planes."""
    files = {
        "legacy.py": _LEGACY,
        "dnnlib/__init__.py": "",
        "camera_utils.py": "",
        "torch_utils/__init__.py": "",
        "torch_utils/misc.py": _MISC,
        "torch_utils/persistence.py": "",
        "torch_utils/ops/__init__.py": "",
        **{f"torch_utils/ops/{name}.py": _OPERATION for name in ("bias_act", "upfirdn2d", "filtered_lrelu")},
        "training/__init__.py": "",
        "training/triplane.py": _filled(_TRIPLANE, **ball),
        "training/volumetric_rendering/__init__.py": "",
        "training/volumetric_rendering/renderer.py": "def sample_from_balls(): ..." if ball.get("spherical") else "",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def write_network(checkout: Path, target: Path) -> Path:
    """Write the checkpoint, pickled by a separate process."""
    command = [sys.executable, "-c", _filled(_PICKLER), str(checkout), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return target


class Trap:
    """An object that creates the file `mark` when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def write_trap(target: Path, mark: Path, size: int) -> None:
    """Write a pickle of `size` bytes that creates `mark` when it is opened."""
    content = pickle.dumps(Trap(mark))
    target.write_bytes(content + b"\0" * (size - len(content)))


def calls(checkout: Path, what: str) -> list[dict]:
    """Recorded calls of kind `what`."""
    path = checkout / "calls.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["what"] == what]
