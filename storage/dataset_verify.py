"""Is a dataset what it says it is: every byte against the manifest, then the arrays against each other.

All problems are collected, each with its head and array, so that they can be mended one by one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from storage.dataset_publish import LATENTS, MANIFEST, digest_of, latents_digest, read_manifest
from storage.dataset_reader import HeadDataset
from storage.dataset_schema import ARRAYS, LATENT_ARRAYS, ROWS_PER_CHUNK, ArraySpec
from storage.dataset_split import SPLITS
from storage.errors import DatasetError
from storage.manifests import FileRecord, content_problem, extra_files

WHITE_AT_LEAST = 253
"""Alpha below half a step rounds to mask 0 and leaves RGB within two steps of white."""
NORMAL_BACKGROUND = 128
_ROTATION_TOLERANCE = 1e-4
_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong. `head` and `array` are empty where it concerns the whole dataset."""

    head: str
    array: str
    what: str

    def __str__(self) -> str:
        place = " ".join(part for part in (f"head {self.head}" if self.head else "", self.array) if part)
        return f"{place}: {self.what}" if place else self.what


def verify(path: Path) -> list[Problem]:
    """All problems of the dataset at `path`; an empty list means that it is whole and consistent.

    Reads every byte. Checked: SHA-256 of each file and the digest, no file missing or too many, shapes,
    cameras are rigid, embeddings have unit length, and under mask 0 RGB is white and normals are (128, 128, 128).
    """
    try:
        dataset = HeadDataset.open(path)
    except DatasetError as error:
        return [Problem(head="", array="", what=str(error)), *_broken_metadata(Path(path))]
    problems = list(_file_problems(dataset.path, dataset, ARRAYS))
    if dataset.has_latents:
        problems += _file_problems(dataset.path / LATENTS, dataset, LATENT_ARRAYS)
    damaged = {("" if " to " in problem.head else problem.head, problem.array) for problem in problems}
    for subject, head in enumerate(dataset.ids):
        for arrays, check in _CHECKS:
            if not {(where, array) for where in ("", head) for array in arrays} & damaged:
                problems += _head_problems(dataset, subject, arrays[0], check)
    return sorted(problems, key=lambda problem: (problem.head, problem.array))


def info(path: Path) -> dict[str, Any]:
    """Facts about a dataset for people: digest, counts, sizes in bytes by array, splits, latents, attributes."""
    dataset = HeadDataset.open(path)
    sizes: dict[str, int] = defaultdict(int)
    for name, record in read_manifest(dataset.path).files.items():
        sizes[name.split("/")[0] if "/" in name else "metadata"] += record.size
    return {
        "path": str(dataset.path),
        "digest": dataset.digest,
        "schema_version": dataset.attributes["schema_version"],
        "heads": len(dataset),
        "views": dataset.views,
        "resolution": [dataset.sizes["height"], dataset.sizes["width"]],
        "splits": {name: len(dataset.split(name)) for name in SPLITS},
        "bytes": dict(sorted(sizes.items())),
        "latents": dataset.latents_attributes() if dataset.has_latents else None,
        "attributes": {name: value for name, value in dataset.attributes.items() if name != "ids"},
    }


def _broken_metadata(path: Path) -> Iterator[Problem]:
    """Which files differ from the manifest, where the dataset can't even be opened."""
    try:
        files = read_manifest(path).files
    except DatasetError as error:
        yield Problem(head="", array="", what=str(error))
        return
    for name, record in files.items():
        if what := content_problem(path, name, record):
            yield Problem(head="", array=name.split("/")[0] if "/" in name else "", what=what)


def _file_problems(folder: Path, dataset: HeadDataset, specs: Mapping[str, ArraySpec]) -> Iterator[Problem]:
    """The files of one group against its manifest, and its manifest against the schema."""
    try:
        manifest = read_manifest(folder)
        latents = dataset.latents_attributes() if specs is LATENT_ARRAYS else None
    except ValueError as error:
        yield Problem(head="", array="", what=str(error))
        return
    places = dict(_places(folder, dataset, specs))
    for name, record in manifest.files.items():
        if what := content_problem(folder, name, record):
            yield Problem(**places.get(name, {"head": "", "array": ""}), what=what)
    for name in sorted(places.keys() - manifest.files.keys()):
        yield Problem(**places[name], what=f"{name} is not in {MANIFEST}")
    yield from _strangers(folder, manifest.files, beside=() if specs is LATENT_ARRAYS else (f"{LATENTS}/",))
    digest = digest_of(manifest.files) if latents is None else latents_digest(latents, manifest.files)
    if digest != manifest.digest:
        yield Problem(
            head="", array="", what=f"{folder.name}: expected the digest {digest}, {MANIFEST} says {manifest.digest}"
        )


def _strangers(folder: Path, files: Mapping[str, FileRecord], beside: tuple[str, ...]) -> Iterator[Problem]:
    """Files, links and devices of a group that its manifest does not list, but those below `beside`."""
    try:
        for name in extra_files(folder, files, without=(MANIFEST,)):
            if not name.startswith(beside):
                yield Problem(head="", array="", what=f"{folder.name}: {name} is not in {MANIFEST}")
    except ValueError as error:
        yield Problem(head="", array="", what=f"{folder.name}: {error}")


def _places(folder: Path, dataset: HeadDataset, specs: Mapping[str, ArraySpec]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every file of a group by name, with the head and the array that it belongs to."""
    prefix = f"{folder.name}/" if specs is LATENT_ARRAYS else ""
    for name, spec in specs.items():
        array = prefix + name
        yield f"{name}/zarr.json", {"head": "", "array": array}
        if spec.axes[0][0] != "subject":
            yield f"{name}/{spec.file(0)}", {"head": "", "array": array}
            continue
        step = 1 if spec.linked else ROWS_PER_CHUNK
        for start in range(0, len(dataset), step):
            held = dataset.ids[start : start + step]
            head = held[0] if len(held) == 1 else f"{held[0]} to {held[-1]}"
            yield f"{name}/{spec.file(start // step)}", {"head": head, "array": array}


def _head_problems(dataset: HeadDataset, subject: int, array: str, check: "_Check") -> Iterator[Problem]:
    head = dataset.ids[subject]
    try:
        for name, what in check(dataset, subject):
            yield Problem(head=head, array=name, what=what)
    except DatasetError as error:
        yield Problem(head=head, array=array, what=str(error))


def _camera_problems(dataset: HeadDataset, subject: int) -> Iterator[tuple[str, str]]:
    cameras = dataset.cameras(subject)
    cam2world = cameras["cam2world"].astype(np.float64)
    rotation = cam2world[:, :3, :3]
    off = np.abs(rotation.transpose(0, 2, 1) @ rotation - np.eye(3)).max(axis=(1, 2))
    rigid = (off < _ROTATION_TOLERANCE) & (np.linalg.det(rotation) > 0)
    rigid &= np.isfinite(cam2world).all(axis=(1, 2)) & (cam2world[:, 3] == (0, 0, 0, 1)).all(axis=1)
    yield from _views("cam2world", ~rigid, "expected rotations with a position")
    focal = cameras["intrinsics"][:, (0, 1), (0, 1)]
    good = np.isfinite(cameras["intrinsics"]).all(axis=(1, 2)) & (focal > 0).all(axis=1)
    yield from _views("intrinsics", ~good, "expected positive focal lengths")


def _identity_problems(dataset: HeadDataset, subject: int) -> Iterator[tuple[str, str]]:
    if not abs(np.linalg.norm(dataset.identities[subject]) - 1) < _LENGTH_TOLERANCE:
        yield "identity", f"expected unit length, found {np.linalg.norm(dataset.identities[subject]):.4f}"
    rows = dataset.read_views(subject, range(dataset.views), ["identity_views"])["identity_views"]
    absent = np.isnan(rows).all(axis=1)
    good = absent | (np.abs(np.linalg.norm(rows, axis=1) - 1) < _LENGTH_TOLERANCE)
    yield from _views("identity_views", ~good, "expected unit length, or NaN throughout")


def _picture_problems(dataset: HeadDataset, subject: int) -> Iterator[tuple[str, str]]:
    pictures = dataset.read_views(subject, range(dataset.views))
    empty = pictures["mask"] == 0  # view height width
    dark = empty & (pictures["rgb"] < WHITE_AT_LEAST).any(axis=-1)
    yield from _views("rgb", dark.any(axis=(1, 2)), f"expected white under mask 0, {dark.sum()} pixels are not")
    odd = empty & (pictures["normals"] != NORMAL_BACKGROUND).any(axis=-1)
    yield from _views(
        "normals", odd.any(axis=(1, 2)), f"expected (128, 128, 128) under mask 0, {odd.sum()} pixels are not"
    )


def _views(array: str, wrong: Bool[np.ndarray, " view"], what: str) -> Iterator[tuple[str, str]]:
    if wrong.any():
        some = np.flatnonzero(wrong)
        yield array, f"{what} ({len(some)} views, the first is {some[0]})"


_Check = Callable[[HeadDataset, int], Iterator[tuple[str, str]]]
_CHECKS: tuple[tuple[tuple[str, ...], _Check], ...] = (
    (("cam2world", "intrinsics", "azimuth", "elevation"), _camera_problems),
    (("identity", "identity_views"), _identity_problems),
    (("rgb", "mask", "normals"), _picture_problems),
)
"""Which arrays a check reads; it is left out for a head where one of them has damaged bytes."""
