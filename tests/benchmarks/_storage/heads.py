"""The heads that all formats hold: cheap variations of a few rendered heads, so that a large set takes minutes.

Variation k mirrors, shifts and tints a rendered head and adds noise to its skin, without which images of an analytic
surface compress better than photographs. The views of a variation need not match its cameras: nothing measured here
depends on them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.normals import encode_normals, fill_normals_under_mask, make_normal_renderer
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.storage.codec import DEFAULT_CODEC
from spinmeround.storage.dataset import HeadDataset, HeadEntry, add_latents, publish, write_head, write_latents
from spinmeround.storage.records import HeadArrays
from spinmeround.tasks.heads.mesh import mesh_head


@dataclass(frozen=True, kw_only=True)
class WorkingSet:
    """Number and sizes of the heads, and the folder of their files."""

    heads: int
    rendered: int
    views: int
    pixels: int
    grain: float
    latent: int
    folder: Path

    @property
    def cameras(self) -> ViewGrid:
        """A grid with five elevations, or with one if the number of views is not a multiple of five."""
        if self.views % 5:
            return ViewGrid(azimuths=self.views, elevations_deg=(0.0,))
        return ViewGrid(azimuths=self.views // 5)

    def head(self, number: int) -> HeadArrays:
        """Head `number`; deterministic."""
        with np.load(self._rendered(number % self.rendered)) as arrays:
            return self.vary(number, arrays)

    def vary(self, number: int, arrays: Mapping[str, np.ndarray]) -> HeadArrays:
        """Variation `number` of a rendered head."""
        rgb, mask, normals = arrays["rgb"], arrays["mask"], arrays["normals"]
        rng, cameras = np.random.default_rng(number), self.cameras.cameras()
        inside = mask[..., None] > 0
        tint = rng.uniform(0.85, 1.0, 3).astype(np.float32)
        noise = rng.normal(0.0, self.grain, rgb.shape).astype(np.float32)
        varied = np.where(inside, np.rint(rgb * tint + noise).clip(0, 255), 255).astype(np.uint8)
        shift = int(rng.integers(-8, 9)) * self.pixels // 256
        pictures = [np.roll(array, shift, axis=1) for array in (varied, mask, normals)]
        if number // self.rendered % 2:
            pictures = [array[:, :, ::-1] for array in pictures]
        rgb, mask, normals = (np.ascontiguousarray(array) for array in pictures)
        identity = rng.normal(size=512).astype(np.float32)
        return HeadArrays(
            id=f"procedural-{number:06d}",
            seed=number,
            rgb=rgb,
            mask=mask,
            normals=normals,
            cam2world=cameras.cam2world,
            intrinsics=cameras.intrinsics,
            azimuth=cameras.azimuth_deg,
            elevation=cameras.elevation_deg,
            identity=identity / np.linalg.norm(identity),
            identity_views=np.full((self.views, 512), np.nan, np.float32),
        )

    def latents(self, number: int) -> np.ndarray:
        """Image and normal latents of head `number`: noise, which compresses as little as latents do."""
        rng = np.random.default_rng([number, 1])
        return rng.normal(size=(2, self.views, 4, self.latent, self.latent)).astype(np.float16)

    @property
    def encoded(self) -> Path:
        """The folder of the dataset for the current default codec; each codec has its own."""
        return self.folder / f"{DEFAULT_CODEC.kind}-{DEFAULT_CODEC.level}"

    def prepare(self, processes: int) -> HeadDataset:
        """Render missing heads, and publish the dataset with its latents if it does not exist."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            list(pool.map(self._render, range(self.rendered)))
            found = list((self.encoded / "dataset").glob("*.zarr/latents/zarr.json"))
            if not found:
                entries = list(pool.map(self._write, range(self.heads)))
                path = publish(self.encoded / "dataset", [pixels for pixels, _ in entries], {}).path
                add_latents(path, [latents for _, latents in entries], "noise")
                return HeadDataset.open(path)
        return HeadDataset.open(found[0].parents[1])

    def _rendered(self, seed: int) -> Path:
        return self.folder.parent / f"rendered-{self.views}x{self.pixels}-{seed}.npz"

    def _render(self, seed: int) -> None:
        if not self._rendered(seed).exists():
            made: dict[str, Any] = {"seed": seed}
            for stage in STAGES.values():
                made |= stage(self, made)
            temporary = self._rendered(seed).with_suffix(".part.npz")
            np.savez(temporary, **{name: made[name] for name in ("rgb", "mask", "normals")})
            temporary.rename(self._rendered(seed))

    def _write(self, number: int) -> tuple[HeadEntry, HeadEntry]:
        head, folders = self.head(number), [self.encoded / name / f"{number}" for name in ("heads", "latents")]
        if not (folders[1] / "zarr.json").exists():
            write_head(folders[0], head)
            write_latents(folders[1], *self.latents(number))
        return HeadEntry(id=head.id, folder=folders[0]), HeadEntry(id=head.id, folder=folders[1])


def _pictures(working: WorkingSet, made: Mapping[str, Any]) -> dict[str, Any]:
    generator = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    identity = generator.sample(made.get("seed", 0))
    views = generator.render(identity, working.cameras.cameras(), working.pixels)
    return {"generator": generator, "identity": identity, "rgb": views.rgb, "mask": views.mask}


def _mesh(working: WorkingSet, made: Mapping[str, Any]) -> dict[str, Any]:
    params = MeshParams()
    return {"mesh": mesh_head(made["generator"], made["identity"], params)}


def _normals(working: WorkingSet, made: Mapping[str, Any]) -> dict[str, Any]:
    renderer = make_normal_renderer("embree", threads=1)
    maps = renderer.render(made["mesh"], working.cameras.cameras(), working.pixels)
    return {"normals": encode_normals(fill_normals_under_mask(maps.normals, maps.hit, made["mask"]), made["mask"])}


STAGES: Mapping[str, Callable[[WorkingSet, Mapping[str, Any]], dict[str, Any]]] = {
    "render": _pictures,
    "mesh": _mesh,
    "normals": _normals,
}
"""The stages that make a head's images, each from the results of the earlier ones."""


def draws(heads: int, views: int, wanted: int, seed: int) -> Iterator[tuple[int, list[int]]]:
    """Endless epochs of heads in random order, each with random views."""
    rng = np.random.default_rng(seed)
    while True:
        for subject in rng.permutation(heads).tolist():
            yield subject, rng.permutation(views)[:wanted].tolist()


def tree_size(paths: Sequence[Path]) -> int:
    """Total bytes of all files at and below these paths."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)
