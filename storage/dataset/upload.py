"""Uploads a dataset to the object store of its artifacts, as `<root>/datasets/<first 12 digits of the digest>.zarr`.

The server copies files that artifacts contain; other files are uploaded. The manifest comes last, since readers require
it, and a rerun after an interruption uploads what is missing.
"""

from collections.abc import Mapping
from pathlib import Path

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.artifacts.backend import Source
from spinmeround.storage.artifacts.s3_backend import ObjectBackend
from spinmeround.storage.dataset.head_files import chunk_names
from spinmeround.storage.dataset.manifest import MANIFEST, read_manifest, stated_digest
from spinmeround.storage.dataset.publish import LATENTS
from spinmeround.storage.dataset.schema import ARRAYS, LATENT_ARRAYS, ArraySpec, read_metadata, separator_of
from spinmeround.storage.errors import DatasetError

DATASETS = "datasets"

ArtifactKeys = Mapping[str, Mapping[str, str]]
"""Keys of the artifacts that a dataset was joined from: head id -> stage -> key."""


def upload_dataset(store: ArtifactStore, dataset: Path, keys: ArtifactKeys) -> str:
    """Upload a dataset to the object store that holds the artifacts it was joined from; returns its URL.

    Raises StorageUnavailable if the server keeps failing, DatasetError if another dataset has that name.
    """
    digest = read_manifest(dataset).digest
    place = f"{DATASETS}/{digest[:12]}.zarr"
    stated = _uploaded_digest(store, place)
    if stated not in (None, digest):
        raise DatasetError(f"{store.root}/{place} holds another dataset, of digest {stated}; remove it")
    if stated is None:
        _upload(store, dataset, place, _shared(store, dataset, keys, ARRAYS))
    return f"{store.root}/{place}"


def upload_latents(store: ArtifactStore, dataset: Path, keys: ArtifactKeys) -> str:
    """Upload a dataset's latents next to it, from the `encode` artifacts; returns their URL.

    Latents of another autoencoder are replaced; until the upload is complete, the dataset has none.
    """
    digest = read_manifest(dataset).digest
    place = f"{DATASETS}/{digest[:12]}.zarr/{LATENTS}"
    with store.lock(LATENTS, digest):  # latents of different autoencoders have the same names
        if _uploaded_digest(store, place) != read_manifest(dataset / LATENTS).digest:
            _objects(store).client.delete(f"{place}/{MANIFEST}")
            shared = _shared(store, dataset / LATENTS, keys, LATENT_ARRAYS)
            _upload(store, dataset / LATENTS, place, shared, everything=True)
    return f"{store.root}/{place}"


def _objects(store: ArtifactStore) -> ObjectBackend:
    if not isinstance(store.backend, ObjectBackend):
        raise TypeError(f"expected an object store, found {store.root}")
    return store.backend


def _uploaded_digest(store: ArtifactStore, place: str) -> str | None:
    data = _objects(store).client.get(f"{place}/{MANIFEST}")
    return None if data is None else stated_digest(data, f"{store.root}/{place}/{MANIFEST}")


def _shared(
    store: ArtifactStore, folder: Path, keys: ArtifactKeys, specs: Mapping[str, ArraySpec]
) -> dict[str, Source]:
    """The files of a group, with heads ordered by id, that an artifact holds too."""
    separator = separator_of(read_metadata(folder / next(iter(specs))))
    shared: dict[str, Source] = {}
    for subject, id in enumerate(sorted(keys)):
        for stage, key in keys[id].items():
            files = store.manifest(stage, key).files
            for name, spec in specs.items():
                for own in files.keys() & set(chunk_names(name, spec) if spec.linked else ()):
                    source = Source(stage=stage, key=key, name=own, record=files[own])
                    shared[f"{name}/{spec.file(subject, separator)}"] = source
    return shared


def _upload(
    store: ArtifactStore, folder: Path, place: str, shared: Mapping[str, Source], *, everything: bool = False
) -> None:
    """Upload missing files, or with `everything` all: an uploaded file of the same size may have other content."""
    objects, manifest = _objects(store), read_manifest(folder)
    sent = {} if everything else {found.name: found.size for found in objects.client.listing(place)}
    for records in (*manifest.blocks(), manifest.parts):
        missing = [name for name, record in records.items() if sent.get(f"{place}/{name}") != record.size]
        same = {name: shared[name] for name in missing if name in shared and shared[name].record == records[name]}
        objects.place(place, folder, missing, same)
    objects.client.put(f"{place}/{MANIFEST}", folder / MANIFEST)
