"""Heads that are ellipsoids: a complete generator, explained in docs/how-to/generators.md."""

import numpy as np

from spinmeround.models.geometry.cameras import pixel_rays
from spinmeround.storage.records import Identity, Rendering


class Ellipsoids:
    name, box_warp = "ellipsoids", 1.0

    def __init__(self, size: float = 0.25) -> None:
        self.size, self.fingerprint = size, f"ellipsoids-1-{size}"

    def sample(self, seed):
        return Identity(seed=seed, latent=np.random.default_rng([seed, 1]).standard_normal(6).astype(np.float32))

    def half_axes(self, identity):
        return self.size * (1.0 + 0.1 * np.tanh(identity.latent[:3]))

    def render(self, identity, cameras, resolution):
        origins, directions = pixel_rays(cameras, resolution)  # (view, height, width, 3), in the world
        o, d = origins / self.half_axes(identity), directions / self.half_axes(identity)
        a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.0
        hit = b * b > a * c
        along = np.where(hit, (-b - np.sqrt(np.maximum(b * b - a * c, 0.0))) / a, np.nan)
        depth = along * (directions * cameras.cam2world[:, None, None, :3, 2]).sum(-1)
        colour = np.rint(120 + 100 * np.tanh(identity.latent[3:])).astype(np.uint8)
        rgb = np.where(hit[..., None], colour, np.uint8(255))
        return Rendering(rgb=rgb, mask=hit.astype(np.uint8) * 255, depth=depth.astype(np.float32))

    def density(self, identity, points):
        outward = np.linalg.norm(points / self.half_axes(identity), axis=-1) - 1.0
        return np.clip(10.0 - 50.0 * outward, 0.0, 20.0).astype(np.float32)

    def landmarks(self, identity):
        sights = np.array([[-0.3, 0.3, 1.0], [0.3, 0.3, 1.0], [0.0, 0.0, 1.0], [-0.3, -0.4, 1.0], [0.3, -0.4, 1.0]])
        sights /= np.linalg.norm(sights, axis=1, keepdims=True)
        return (sights * self.half_axes(identity)).astype(np.float32)


make = Ellipsoids
