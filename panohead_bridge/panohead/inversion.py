"""Pivotal tuning inversion of a head in pictures (Roich et al. 2021), inside the checkout's process.

First the latent w alone is fitted, from the mean of many, as StyleGAN2 projects a picture (Karras et al. 2020,
appendix D): Adam, a learning rate that rises and falls, and noise on w that fades. Then w is the pivot, and a copy of
the network is tuned. The loss is the squared difference of pictures on white and of masks, and a perceptual distance if
its network is given. Loaded by `worker.py` from the file next to it. It needs Python 3.8, numpy and torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

_RISE, _FALL = 0.05, 0.25
"""Shares of the steps in which the learning rate rises and falls."""
_NOISE, _NOISE_SHARE = 0.05, 0.75
"""Noise on w at the beginning, in standard deviations of w, and the share of the steps after which there is none."""


def invert(
    bridge: Any, arrays: dict[str, Any], values: dict[str, Any], progress: Callable[[int, int], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The error at the given pictures, and pictures, masks and depths from the target cameras."""
    torch = bridge.torch
    total = values["steps"] + values["tuning_steps"]
    with torch.enable_grad():
        loss = _Loss(bridge, arrays, values)
        styles = _fitted_latent(bridge, loss, values, lambda done: progress(done, total))
        network = _tuned(bridge, loss, styles, values, lambda done: progress(values["steps"] + done, total))
    planes = _planes(bridge, network, styles)
    made = []
    for pose, intrinsics in bridge.posed(arrays["target_cam2world"], arrays["target_intrinsics"], 0.0):
        out = bridge.synthesized(network, styles, planes, pose, intrinsics, values["seed"])
        made.append(bridge.picture(out, intrinsics, values["resolution"]))
    pictures = {name: np.stack([view[name] for view in made]) for name in ("rgb", "mask", "depth")}
    return {"error": loss.error(network, styles)}, pictures


class _Loss:
    """The distance between the given pictures and those of a network's head."""

    def __init__(self, bridge: Any, arrays: dict[str, Any], values: dict[str, Any]) -> None:
        self._bridge, self._values = bridge, values
        self._cameras = bridge.posed(arrays["cam2world"], arrays["intrinsics"], 0.0)
        self._pictures = bridge.tensor(arrays["rgb"]).permute(0, 3, 1, 2) / 127.5 - 1.0
        self._masks = bridge.tensor(arrays["mask"])[:, None] / 255.0
        self._vgg16 = None  # type: Any
        if values["vgg16"] is not None:
            self._vgg16 = bridge.torch.jit.load(values["vgg16"]).eval().to(bridge.device)
            self._features = [self._perceived(each) for each in self._pictures.split(1)]

    def __call__(self, network: Any, styles: Any) -> Any:
        """The mean loss over the given views."""
        planes, losses = _planes(self._bridge, network, styles), []
        for view, (picture, mask) in enumerate(self._views(network, styles, planes)):
            loss = (picture - self._pictures[view : view + 1]).square().mean()
            loss = loss + self._values["mask_weight"] * (mask - self._masks[view : view + 1]).square().mean()
            if self._vgg16 is not None:
                distance = (self._perceived(picture) - self._features[view]).square().sum()
                loss = loss + self._values["perceptual_weight"] * distance
            losses.append(loss)
        return sum(losses) / len(losses)

    def error(self, network: Any, styles: Any) -> float:
        """Root mean square difference of the pictures, colours from 0 to 1."""
        views = self._views(network, styles, _planes(self._bridge, network, styles))
        found = self._bridge.torch.cat([picture for picture, _ in views])
        return float(((found - self._pictures) / 2).square().mean().sqrt())

    def _views(self, network: Any, styles: Any, planes: Any) -> Any:
        for pose, intrinsics in self._cameras:
            out = self._bridge.synthesized(network, styles, planes, pose, intrinsics, self._values["seed"])
            yield self._bridge.on_white(out, self._values["resolution"])

    def _perceived(self, picture: Any) -> Any:
        """Features whose squared distance is LPIPS, by the TorchScript network of StyleGAN's projector."""
        return self._vgg16((picture + 1.0) * 127.5, resize_images=False, return_lpips=True)


def _fitted_latent(bridge: Any, loss: _Loss, values: dict[str, Any], progress: Callable[[int], None]) -> Any:
    """The styles of the head: one w for all layers."""
    torch = bridge.torch
    drawn = _drawn_styles(bridge, values["samples"])
    mean = drawn.mean(0, keepdim=True)
    deviation = float((drawn - mean).square().sum(-1).mean().sqrt())
    layers, generator = drawn.shape[1], torch.Generator().manual_seed(values["seed"])
    w = mean[:, :1].clone().requires_grad_(True)
    optimiser = torch.optim.Adam([w], betas=(0.9, 0.999))
    for step in range(values["steps"]):
        done = step / values["steps"]
        for group in optimiser.param_groups:
            group["lr"] = values["learning_rate"] * _rate(done)
        strength = deviation * _NOISE * max(0.0, 1.0 - done / _NOISE_SHARE) ** 2
        noise = torch.randn(w.shape, generator=generator).to(bridge.device) * strength
        optimiser.zero_grad(set_to_none=True)
        loss(bridge.network, (w + noise).repeat(1, layers, 1)).backward()
        optimiser.step()
        progress(step + 1)
    return w.detach().repeat(1, layers, 1)


def _tuned(bridge: Any, loss: _Loss, styles: Any, values: dict[str, Any], progress: Callable[[int], None]) -> Any:
    """A copy of the network, tuned to the pictures; the network itself without steps."""
    torch = bridge.torch
    if not values["tuning_steps"]:
        return bridge.network
    network = copy.deepcopy(bridge.network).requires_grad_(True)
    optimiser = torch.optim.Adam(network.parameters(), lr=values["tuning_rate"])
    for step in range(values["tuning_steps"]):
        optimiser.zero_grad(set_to_none=True)
        loss(network, styles).backward()
        optimiser.step()
        progress(step + 1)
    return network.requires_grad_(False)


def _drawn_styles(bridge: Any, samples: int) -> Any:
    """The styles of random latents without truncation, for the conditioning camera."""
    torch = bridge.torch
    latents = bridge.tensor(np.random.RandomState(0).randn(samples, bridge.network.z_dim))
    label = bridge.conditioning().expand(samples, -1)
    with torch.no_grad():
        return bridge.network.mapping(latents, label)


def _planes(bridge: Any, network: Any, styles: Any) -> Any:
    return network.backbone.synthesis(styles, update_emas=False, **bridge.synthesis_options())


def _rate(done: float) -> float:
    """The factor of the learning rate after this share of the steps: a linear rise, a cosine fall."""
    fall = 0.5 - 0.5 * np.cos(np.pi * min(1.0, (1.0 - done) / _FALL))
    return float(fall * min(1.0, done / _RISE + 1e-3))
