"""Mending a dataset in place: a damaged file is replaced as a whole by one with the bytes that the manifest asks for.

No other file is touched, so the digest stays. What does not belong to a dataset is moved beside it, never deleted.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinmeround.storage.dataset.head_group import HeadEntry
from spinmeround.storage.dataset.joined_group import build_group
from spinmeround.storage.dataset.publish import read_manifest
from spinmeround.storage.dataset.schema import ARRAYS
from spinmeround.storage.errors import DatasetError, environment_errors
from spinmeround.storage.files import fsync, link_or_copy, make_folder, owned_folder, rename_folder
from spinmeround.storage.manifests import record_file

_TEMP, _ASIDE = ".tmp", ".corrupt"


def mend_files(dataset: Path, sources: Mapping[str, Path]) -> None:
    """Replace files of a dataset, named below it, by others (linked, or copied where there are no links).

    Raises DatasetError, with nothing replaced by it, where a source has other bytes than the manifest asks for.
    """
    files = read_manifest(dataset).files
    with environment_errors(dataset), owned_folder(dataset.parent / _TEMP, "repair") as folder:
        for number, (name, source) in enumerate(sources.items()):
            found = record_file(source)
            if found != files[name]:
                raise DatasetError(
                    f"{name}: expected SHA-256 {files[name].sha256[:12]}, what was made anew has {found.sha256[:12]}; "
                    "other software or another machine made the dataset"
                )
            target = dataset / name
            if not target.parent.resolve().is_relative_to(dataset.resolve()):
                raise DatasetError(f"{name}: a folder on the way is a link; remove it")
            link_or_copy(source, folder / str(number))
            make_folder(target.parent)
            (folder / str(number)).replace(target)
            fsync(target.parent)


def mend_shared_files(dataset: Path, names: Sequence[str], heads: Sequence[HeadEntry]) -> None:
    """Replace files that belong to many heads; `heads` are all heads of the dataset. Raises DatasetError as above."""
    ordered = sorted(heads, key=lambda head: head.id)
    with environment_errors(dataset), owned_folder(dataset.parent / _TEMP, "repair") as folder:
        build_group(folder / "new", ARRAYS, ordered, {})
        mend_files(dataset, {name: folder / "new" / name for name in names})


def set_aside(dataset: Path, name: str) -> Path:
    """Move a file or folder out of a dataset, into the folder of damaged things beside it; returns where it is now."""
    target = dataset.parent / _ASIDE / f"{dataset.name}-{secrets.token_hex(4)}" / name
    with environment_errors(dataset):
        rename_folder(dataset / name, target)
    return target
