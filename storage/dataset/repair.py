"""In-place repair of a dataset: a damaged file is replaced by one with the bytes that the manifest records.

No other file is touched, so the digest does not change. Files that do not belong to a dataset are moved next to it,
never deleted.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from spinmeround.storage.dataset.joined_group import HeadSource, build_group
from spinmeround.storage.dataset.schema import ARRAYS, Separator
from spinmeround.storage.errors import DatasetError, environment_errors
from spinmeround.storage.files import fsync, link_or_copy, make_folder, owned_folder, rename_folder
from spinmeround.storage.manifests import FileRecord, record_file

_TEMP, _ASIDE = ".tmp", ".corrupt"


Replacement = tuple[Path, FileRecord]
"""A file, and the record in the dataset's manifest that it must match."""


def replace_files(dataset: Path, sources: Mapping[str, Replacement]) -> None:
    """Replace files of a dataset, by their names in it, with others (hard links; copies if there are no links).

    Raises DatasetError, and leaves the file, if a source does not have the bytes that the manifest records.
    """
    with environment_errors(dataset), owned_folder(dataset.parent / _TEMP, "repair") as folder:
        for number, (name, (source, expected)) in enumerate(sources.items()):
            found = record_file(source)
            if found != expected:
                raise DatasetError(
                    f"{name}: expected SHA-256 {expected.sha256[:12]}, the rebuilt file has {found.sha256[:12]}; "
                    "the dataset was made with other software or on another machine"
                )
            target = dataset / name
            if not target.parent.resolve().is_relative_to(dataset.resolve()):
                raise DatasetError(f"{name}: a folder of its path is a link; remove it")
            link_or_copy(source, folder / str(number))
            make_folder(target.parent)
            (folder / str(number)).replace(target)
            fsync(target.parent)


def rebuild_files(
    dataset: Path, heads: Sequence[HeadSource], names: Mapping[str, tuple[str, FileRecord]], separator: Separator
) -> None:
    """Replace files of a dataset with files of a group that is built again from `heads`.

    `names` maps the name of a file in the dataset to its name in that group, whose subjects are `heads` by id and whose
    chunk keys have this separator, and to its record in the dataset's manifest.
    Raises DatasetError as `replace_files`.
    """
    ordered = sorted(heads, key=lambda head: head.id)
    with environment_errors(dataset), owned_folder(dataset.parent / _TEMP, "repair") as folder:
        build_group(folder / "new", ARRAYS, ordered, {}, separator)
        replace_files(dataset, {name: (folder / "new" / own, record) for name, (own, record) in names.items()})


def set_aside(dataset: Path, name: str) -> Path:
    """Move a file or folder of a dataset to the folder of damaged files next to it; returns its new path."""
    target = dataset.parent / _ASIDE / f"{dataset.name}-{secrets.token_hex(4)}" / name
    with environment_errors(dataset):
        rename_folder(dataset / name, target)
    return target
