"""PanoHead's network inside the checkout's process: renders views and evaluates densities of heads given by latents.

Loaded by `worker.py` from the file next to it. It needs Python 3.8, numpy, torch and the checkout first on
the import path, and nothing of this project.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

EMPTY = -1000.0
"""Density outside the cube, the value that PanoHead's own scripts write."""
_HEADS_KEPT = 2
_POINTS_AT_ONCE = 1 << 18


class Refused(Exception):
    """The request is invalid; the message is for the user."""


def reference_operations(device: str, warn: Callable[[str], None]) -> None:
    """Fall back, with a warning, to the checkout's reference operations if its CUDA operations can't be compiled."""
    if not device.startswith("cuda"):
        return
    from torch_utils.ops import bias_act, filtered_lrelu, upfirdn2d

    for operation in (bias_act, upfirdn2d, filtered_lrelu):
        try:
            operation._init()
        except Exception as error:
            operation._init = lambda: False
            name, reason = operation.__name__.rpartition(".")[2], (str(error).strip() or repr(error)).splitlines()[0]
            warn(
                f"{name}: PanoHead's CUDA operation can't be compiled ({reason}); its reference path is used, which "
                "is slower and gives the same pictures. To compile it, install ninja and a CUDA toolkit whose nvcc has "
                "the version that torch was built for (torch.version.cuda)"
            )


def import_checkout() -> Any:
    """The checkout's `legacy` module; restores what newer Pythons have removed."""
    try:
        import distutils.util  # noqa: F401
    except ImportError:  # removed in Python 3.12; dnnlib uses one function of it
        known = {"y": 1, "yes": 1, "t": 1, "true": 1, "on": 1, "1": 1}
        util = types.ModuleType("distutils.util")
        util.strtobool = lambda text: known.get(text.lower(), 0)  # type: ignore[attr-defined]
        package = types.ModuleType("distutils")
        package.util = util  # type: ignore[attr-defined]
        sys.modules.update({"distutils": package, "distutils.util": util})
    try:
        import legacy
    except ImportError as error:
        raise Refused(
            f"generator.options.checkout: its code can't be imported by {sys.executable} ({error}); install its "
            "requirements there (click, requests, scipy, ninja), or set generator.options.python to another Python"
        ) from error
    return legacy


def check_planes(network: Any, spherical: bool | None) -> None:
    """Raises Refused if a network and the checkout, or the `spherical` planes asked for, do not fit together.

    Weights and classes come from the pickle, but the renderer always from the checkout.
    """
    try:
        from training.volumetric_rendering import renderer
    except ImportError:  # another layout: the network says what is missing
        renderer = None
    has, reads = hasattr(network, "ConvA"), hasattr(renderer, "sample_from_balls")
    names = {True: "SphereHead's", False: "PanoHead's"}
    if renderer is not None and has != reads:
        raise Refused(
            f"generator.options.checkout: expected {names[has]} source for this network, found {names[reads]}; set it "
            "to a clone of the repository that the checkpoint belongs to"
        )
    if spherical is not None and has != spherical:
        raise Refused(
            f"generator.options.network: expected a network of {names[spherical]}, found one of {names[has]}; set "
            f"generator.name to '{'spherehead' if has else 'panohead'}', or choose another checkpoint"
        )


class Network:
    """The generator of one pickle; keeps the planes of the last heads."""

    def __init__(self, options: dict[str, Any], warn: Callable[[str], None]) -> None:
        import torch

        legacy = import_checkout()
        self.torch, self.options = torch, options
        self.device = options["device"]
        if self.device == "auto":
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
        network = legacy.load_network_pkl(io.BytesIO(_trusted(options)))["G_ema"]
        check_planes(network, options["spherical"])
        self.network = self._prepared(network)
        reference_operations(self.device, warn)
        self._heads = OrderedDict()  # type: OrderedDict[bytes, tuple[Any, ...]]

    def _prepared(self, network: Any) -> Any:
        """The network on its device, without learned camera offsets, density noise or a remembered resolution."""
        options = self.options
        rendering = dict(network.rendering_kwargs)
        if options["code"] == "checkout":
            network = _remade(network)
        for name, option in (("depth_resolution", "steps"), ("depth_resolution_importance", "importance_steps")):
            if options[option] is not None:
                rendering[name] = options[option]
        rendering["density_noise"] = 0
        network.rendering_kwargs = rendering
        if rendering["box_warp"] != options["box_warp"]:
            raise Refused(
                f"generator.options.box_warp: expected {rendering['box_warp']}, the side of this network's cube, "
                f"found {options['box_warp']}"
            )
        self.neural_resolution = options["neural_resolution"] or network.neural_rendering_resolution
        return network.eval().requires_grad_(False).to(self.device)

    def describe(self) -> dict[str, Any]:
        """Properties of the network that the parent process needs."""
        rendering = self.network.rendering_kwargs
        return {
            "latent": self.network.z_dim,
            "resolution": self.network.img_resolution,
            "neural_resolution": self.neural_resolution,
            "near": _number(rendering["ray_start"]),
            "far": _number(rendering["ray_end"]),
            "device": self.device,
            "torch": self.torch.__version__,
        }

    def conditioning(self) -> Any:
        """Label of the conditioning camera: pose and intrinsics, 25 numbers."""
        angle = np.radians(self.options["conditioning_azimuth_deg"])
        right, back = (np.cos(angle), 0.0, -np.sin(angle)), (np.sin(angle), 0.0, np.cos(angle))
        pose = np.eye(4)
        pose[:3, :3] = np.stack([right, (0.0, -1.0, 0.0), np.negative(back)], axis=-1)  # x right, y down, z forward
        pose[:3, 3] = self.network.rendering_kwargs.get("avg_camera_radius", 2.7) * np.asarray(back)
        focal = self.options["conditioning_focal"]
        intrinsics = np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
        return self.tensor(np.concatenate([pose.ravel(), intrinsics.ravel()])[None])

    def tensor(self, values: np.ndarray) -> Any:
        """An array on the network's device, in float32."""
        return self.torch.from_numpy(np.asarray(values, np.float32)).to(self.device)

    def _head(self, latent: np.ndarray) -> tuple[Any, ...]:
        """Styles, planes and camera offset of a head, computed once for all its views and its density."""
        key = latent.tobytes()
        if key not in self._heads:
            z, label = self.tensor(latent[None]), self.conditioning()
            truncation = {
                "truncation_psi": self.options["truncation_psi"],
                "truncation_cutoff": self.options["truncation_cutoff"],
            }
            styles = self.network.mapping(z, label, **truncation)
            planes = self.network.backbone.synthesis(styles, update_emas=False, **self.synthesis_options())
            offset = self.torch.zeros(3, device=self.device)
            if self.options["learned_offset"]:
                offset = self.network.apply_delta_c(z, label, **truncation)[1].reshape(3)
            while len(self._heads) >= _HEADS_KEPT:
                self._heads.popitem(last=False)
            self._heads[key] = (styles, planes, offset)
        self._heads.move_to_end(key)
        return self._heads[key]

    def synthesis_options(self) -> dict[str, Any]:
        """How the network's layers compute."""
        return {"noise_mode": "const", "force_fp32": not self.options["half_precision"]}

    def views(
        self, arrays: dict[str, Any], values: dict[str, Any], progress: Callable[[int, int], None]
    ) -> dict[str, Any]:
        """Pictures on white, masks and depths from each camera at `resolution`."""
        styles, planes, offset = self._head(arrays["latent"])
        cameras = self.posed(arrays["cam2world"], arrays["intrinsics"], offset)
        made = []
        for pose, intrinsics in cameras:
            out = self.synthesized(self.network, styles, planes, pose, intrinsics, values["seed"])
            made.append(self.picture(out, intrinsics, values["resolution"]))
            progress(len(made), len(cameras))
        return {name: np.stack([view[name] for view in made]) for name in ("rgb", "mask", "depth")}

    def posed(self, cam2world: np.ndarray, intrinsics: np.ndarray, offset: Any) -> list[tuple[Any, Any]]:
        """Pose and intrinsics of each camera on the device, the poses moved by the head's offset."""
        cameras = [(self.tensor(pose), self.tensor(matrix)) for pose, matrix in zip(cam2world, intrinsics)]  # noqa: B905 (Python 3.8)
        for pose, _ in cameras:
            pose[:3, 3] += offset
        return cameras

    def synthesized(
        self, network: Any, styles: Any, planes: Any, pose: Any, intrinsics: Any, seed: int
    ) -> dict[str, Any]:
        """The network's outputs for one camera."""
        self.torch.manual_seed(seed)  # sample positions along rays are random; reset for each view
        network._last_planes = planes
        try:
            out = network.synthesis(
                styles,
                self.torch.cat([pose.reshape(1, 16), intrinsics.reshape(1, 9)], 1),
                neural_rendering_resolution=self.neural_resolution,
                use_cached_backbone=True,
                **self.synthesis_options(),
            )
        finally:
            network._last_planes = None
        if "image_mask" not in out:
            raise Refused(
                "generator.options.checkout: its network has no output 'image_mask', so heads can't be masked; "
                "expected PanoHead's or SphereHead's, which model the background separately"
            )
        return dict(out)

    def on_white(self, out: dict[str, Any], resolution: int) -> tuple[Any, ...]:
        """The picture in [-1, 1] on white and its alpha, from a view's outputs."""
        return on_white(out["image"].float(), out["image_mask"].float(), resolution)

    def picture(self, out: dict[str, Any], intrinsics: Any, resolution: int) -> dict[str, Any]:
        """The bytes and depths of a view from its outputs. Raises ValueError for pixels that are not finite."""
        picture, alpha = self.on_white(out, resolution)
        depth = axial_depth(out["image_depth"].float(), out["image_mask"].float(), intrinsics, resolution)
        if not bool(picture.isfinite().all() & alpha.isfinite().all()):
            raise ValueError(
                "expected finite pixels, found NaN or infinity; check the weights of generator.options.network"
            )
        rgb = (picture * 127.5 + 127.5).round().clamp(0, 255)
        return {
            "rgb": rgb[0].permute(1, 2, 0).to(self.torch.uint8).cpu().numpy(),
            "mask": (alpha * 255).round()[0, 0].to(self.torch.uint8).cpu().numpy(),
            "depth": depth[0, 0].cpu().numpy(),
        }

    def density(self, points: np.ndarray, latent: np.ndarray) -> np.ndarray:
        """Raw sigma at points in the world frame, by the network's own function on the head's planes."""
        styles, planes, offset = self._head(latent)
        found = np.empty(len(points), np.float32)
        half = self.options["box_warp"] / 2 * (1 + 1e-6)
        with _planes_given(self.network.backbone.synthesis, planes):
            for start in range(0, len(points), _POINTS_AT_ONCE):
                places = self.tensor(points[start : start + _POINTS_AT_ONCE])[None] + offset
                forward = self.torch.zeros_like(places)
                forward[..., -1] = -1
                sigma = self.network.sample_mixed(places, forward, styles, **self.synthesis_options())["sigma"]
                sigma = sigma.reshape(-1).masked_fill((places[0].abs() > half).any(-1), EMPTY)
                found[start : start + _POINTS_AT_ONCE] = sigma.float().cpu().numpy()
        return found


def on_white(image: Any, mask: Any, resolution: int) -> tuple[Any, ...]:
    """A picture in [-1, 1] on white and its alpha, at `resolution`.

    The network has already composited the head on its own background with the same weights; at a partly covered
    pixel, white replaces that background by the share 1 - alpha.
    """
    alpha = _resized(mask, image.shape[-1]).clamp(0, 1)
    picture = image * alpha + (1 - alpha)
    return _resized(picture, resolution), _resized(alpha, resolution).clamp(0, 1)


def _resized(values: Any, side: int) -> Any:
    import torch

    if values.shape[-1] == side:
        return values
    return torch.nn.functional.interpolate(
        values, size=(side, side), mode="bilinear", align_corners=False, antialias=side < values.shape[-1]
    )


def axial_depth(distance: Any, mask: Any, intrinsics: Any, resolution: int) -> Any:
    """Depth along the camera's z axis from the mean distance along each ray; NaN where the mask is below 0.5."""
    import torch

    side = distance.shape[-1]
    centres = (torch.arange(side, dtype=torch.float32, device=distance.device) + 0.5) / side
    x = (centres - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (centres - intrinsics[1, 2]) / intrinsics[1, 1]
    depth = distance / (1 + x[None, :] ** 2 + y[:, None] ** 2).sqrt()
    depth = depth.masked_fill(mask < 0.5, float("nan"))
    return torch.nn.functional.interpolate(depth, size=(resolution, resolution), mode="nearest")


@contextlib.contextmanager
def _planes_given(synthesis: Any, planes: Any) -> Any:
    """Inside the block, the backbone returns the given planes."""
    synthesis.forward = lambda *_args, **_kwargs: planes
    try:
        yield
    finally:
        del synthesis.forward


def _trusted(options: dict[str, Any]) -> bytes:
    """The pickle's bytes, refused unless they have the trusted SHA-256; exactly the hashed bytes are unpickled."""
    with open(options["network"], "rb") as file:
        content = file.read()
    found = hashlib.sha256(content).hexdigest()
    if found != options["sha256"]:
        raise Refused(
            f"generator.options.network: {options['network']}: expected SHA-256 {options['sha256']}, found {found}; "
            "the file has changed or is a different one, and was not opened, since unpickling runs the code in it"
        )
    return content


def _remade(network: Any) -> Any:
    """The same weights in the checkout's classes instead of the pickle's."""
    from torch_utils import misc
    from training.triplane import TriPlaneGenerator

    new = TriPlaneGenerator(*network.init_args, **network.init_kwargs)
    misc.copy_params_and_buffers(network, new, require_all=True)
    new.neural_rendering_resolution = network.neural_rendering_resolution
    return new


def _number(value: Any) -> float | None:
    return None if isinstance(value, str) else float(value)  # 'auto': derived from the cube


def write_stub(values: dict[str, Any]) -> None:
    """Write a pickle of random weights in the checkout's own classes.

    The density row of the decoder is scaled so that about a third of the volume exceeds the surface level, 10.
    """
    import pickle

    import torch

    import_checkout()
    from training.triplane import TriPlaneGenerator

    torch.manual_seed(values["seed"])
    with torch.no_grad():
        network = TriPlaneGenerator(**values["kwargs"]).eval().requires_grad_(False)
        network.neural_rendering_resolution = values["neural_resolution"]
        places = torch.rand(1, 4096, 3) - 0.5
        styles = network.mapping(torch.randn(1, network.z_dim), torch.zeros(1, network.c_dim), truncation_psi=0.7)
        sigma = network.sample_mixed(places, torch.zeros_like(places), styles, noise_mode="const")["sigma"]
        last = network.decoder.net[-1]
        gain = 20.0 / float(sigma.std().clamp_min(1e-6))
        last.weight[0] *= gain
        last.bias[0] += (10.0 - gain * float(sigma.quantile(0.65))) / last.bias_gain
    nothing = torch.nn.Identity()
    with open(values["target"], "wb") as file:
        pickle.dump({"G": network, "D": nothing, "G_ema": network, "training_set_kwargs": None}, file)
        file.flush()
        os.fsync(file.fileno())
