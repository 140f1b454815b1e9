"""Compares the digest of a dataset with what is stated elsewhere: its folder's name, `versions.json`, a caller.

A manifest that was edited to match other files has another digest. Nothing inside the dataset shows that, so the
digest is compared with every place that recorded it when the dataset was published, with each on its own: one that
agrees does not excuse one that contradicts.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from spinmeround.storage.dataset.versions import INDEX, list_versions, stated_latents
from spinmeround.storage.errors import DatasetError

_NAMED = re.compile(r"([0-9a-f]{12})\.zarr")
_SHORTEST = 12


def latents_problem(path: Path, digest: str, latents: str | None) -> str | None:
    """How the digest of the latents (None: there are none) contradicts that in the `versions.json` beside the dataset.

    `digest` is that of the dataset.
    """
    try:
        stated = stated_latents(path.resolve().parent, digest)
    except DatasetError:  # digest_problems reports it
        return None
    if stated in (None, latents):
        return None
    return (
        f"expected the latents {stated} that {INDEX} states, found {latents or 'none'}; the next training writes them"
    )


def digest_problems(path: Path, digest: str, heads: int, expected: str, published: Mapping[str, str]) -> Iterator[str]:
    """How the digest of the dataset at `path` contradicts what is stated elsewhere.

    `expected` is a digest, or its first 12 digits or more, that a person asks for; empty: none. `published` maps the
    digests of the datasets that were published of the same heads to where this is stated. `versions.json` states the
    digests of all datasets beside it, whatever their folders are called.
    """
    if expected and not (digest.startswith(expected.lower()) and len(expected) >= _SHORTEST):
        yield f"expected the digest {expected} ({_SHORTEST} digits or more), found {digest}"
    name = _NAMED.fullmatch(path.resolve().name)
    if name is not None and digest[: len(name[1])] != name[1]:
        yield f"expected the digest {name[1]} of the folder's name, found {digest}"
    if published and digest not in published:
        yield f"expected a digest that {' or '.join(sorted(set(published.values())))} states, found {digest}"
    yield from _index_problems(path.resolve().parent, digest, heads)


def is_stated(path: Path) -> bool:
    """Whether the folder's name or a `versions.json` beside it states a digest for the dataset at `path`."""
    return _NAMED.fullmatch(path.resolve().name) is not None or (path.resolve().parent / INDEX).is_file()


def _index_problems(folder: Path, digest: str, heads: int) -> Iterator[str]:
    try:
        versions = {version.digest: version for version in list_versions(folder)}
    except DatasetError as error:
        yield str(error)
        return
    if versions and digest not in versions:
        yield f"expected a digest that {INDEX} states, found {digest}"
    if digest in versions and versions[digest].heads != heads:
        yield f"expected the {versions[digest].heads} heads of version {versions[digest].number}, found {heads}"
