"""Upload of a dataset: the server copies files of artifacts, and readers see it complete or not at all."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import (
    DatasetInfo,
    HeadDataset,
    HeadEntry,
    add_latents,
    publish,
    write_head,
    write_latents,
)
from spinmeround.storage.dataset.upload import upload_dataset, upload_latents
from spinmeround.storage.errors import DatasetError, StorageUnavailable
from tests.support.heads import make_head
from tests.support.s3 import BUCKET, S3Server, proxied

OpenStore = Callable[..., ArtifactStore]
Keys = dict[str, dict[str, str]]
"""Head id -> stage -> key."""
SIDE, VIEWS = 32, 4
LINKED = ("rgb", "mask", "normals")


def artifacts(store: ArtifactStore, stage: str, fill: Callable[[int, Path], object], version: int = 1) -> Keys:
    """An artifact of each of three heads."""
    keys: Keys = {}
    for seed in range(3):
        id, key = f"procedural-{seed:06d}", artifact_key(stage, version, {"seed": seed}, {})
        params = {"seed": seed}
        with store.commit(stage, key, version=version, params=params, inputs={}, weights="", subject=id) as out:
            fill(seed, out)
        keys[id] = {stage: key}
    return keys


def entries(store: ArtifactStore, stage: str, keys: Keys) -> list[HeadEntry]:
    return [HeadEntry(id=id, folder=store.verify(stage, each[stage]).path) for id, each in keys.items()]


def published(store: ArtifactStore, root: Path) -> tuple[DatasetInfo, Keys]:
    keys = artifacts(store, "render", lambda seed, out: write_head(out, make_head(seed, views=VIEWS, side=SIDE)))
    return publish(root, entries(store, "render", keys), {}), keys


def latents(seed: int, out: Path, shift: float) -> None:
    drawn = np.random.default_rng(seed).normal(shift, size=(2, VIEWS, 4, 2, 2)).astype(np.float16)
    write_latents(out, drawn[0], drawn[1])


def test_the_server_copies_files_of_artifacts(open_s3: OpenStore, s3: S3Server, tmp_path: Path) -> None:
    """No shard is uploaded, the manifest comes last, and the copy reads the same. A second upload sends nothing."""
    with proxied(s3.port) as faults:
        store = open_s3(url=faults.url)
        info, keys = published(store, tmp_path)
        before = len(faults.requests)
        url = upload_dataset(store, info.path, keys)
        sent = [(path, length) for method, path, length in faults.requests[before:] if method == "PUT"]
        shards = {path: length for path, length in sent if any(f".zarr/{name}/c." in path for name in LINKED)}
        assert len(shards) == 3 * len(LINKED)
        assert set(shards.values()) == {0}
        assert sent[-1][0].endswith(f"{info.digest[:12]}.zarr/manifest.json")
        again = len(faults.requests)
        assert upload_dataset(store, info.path, keys) == url
        assert [method for method, *_ in faults.requests[again:]] == ["GET"]
        local, remote = HeadDataset.open(info.path), HeadDataset.open(url)
        assert remote.digest == local.digest
        for subject in range(3):
            found, expected = remote.read_views(subject, [1, 3], LINKED), local.read_views(subject, [1, 3], LINKED)
            for name in LINKED:
                np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_array_equal(remote.identities, local.identities)


def test_an_interrupted_upload_is_invisible(open_s3: OpenStore, s3: S3Server, tmp_path: Path) -> None:
    """An upload interrupted by the server leaves no readable dataset; the next one sends only what is missing."""
    with proxied(s3.port) as faults:
        store = open_s3(url=faults.url)
        info, keys = published(store, tmp_path)
        puts = 0

        def die(method: str, path: str, number: int) -> int | None:
            nonlocal puts
            puts += method == "PUT"
            return 503 if puts > 12 else None

        faults.plan = die
        with pytest.raises(StorageUnavailable, match="503"):
            upload_dataset(store, info.path, keys)
        faults.plan = lambda method, path, number: None
        url = f"{store.root}/datasets/{info.digest[:12]}.zarr"
        with pytest.raises(DatasetError):
            HeadDataset.open(url)
        before = len(faults.requests)
        assert upload_dataset(store, info.path, keys) == url
        sent = [path for method, path, _ in faults.requests[before:] if method == "PUT"]
        assert 0 < len(sent) <= 1 + len(list(info.path.rglob("*"))) - 12
        assert HeadDataset.open(url).digest == info.digest


@pytest.mark.parametrize("interrupted", [False, True])
def test_latents_are_uploaded_and_replaced(
    open_s3: OpenStore, s3: S3Server, s3_prefix: str, tmp_path: Path, interrupted: bool
) -> None:
    """Latents of another autoencoder replace those of the same size, also after an interrupted replacement.

    The digest of the dataset stays.
    """
    store = open_s3()
    info, keys = published(store, tmp_path)
    url = upload_dataset(store, info.path, keys)
    for version, autoencoder in enumerate(("first", "second")):
        made = artifacts(store, "encode", partial(latents, shift=5.0 * version), version)
        add_latents(info.path, entries(store, "encode", made), autoencoder)
        if version and interrupted:
            place = f"{s3_prefix}/datasets/{info.digest[:12]}.zarr/latents/manifest.json"
            s3.s3.delete_object(Bucket=BUCKET, Key=place)
        assert upload_latents(store, info.path, made) == f"{url}/latents"
        local, remote = HeadDataset.open(info.path), HeadDataset.open(url)
        assert remote.latents_attributes() == local.latents_attributes()
        found, expected = (each.read_views(2, [0], ("latents/rgb",))["latents/rgb"] for each in (remote, local))
        np.testing.assert_array_equal(found, expected)
        assert remote.digest == info.digest


def test_without_its_manifest_a_dataset_is_absent(
    open_s3: OpenStore, s3: S3Server, s3_prefix: str, tmp_path: Path
) -> None:
    """A dataset, or latents, with all files but the manifest is absent for readers."""
    store = open_s3()
    info, keys = published(store, tmp_path)
    made = artifacts(store, "encode", partial(latents, shift=0.0))
    add_latents(info.path, entries(store, "encode", made), "first")
    url, place = upload_dataset(store, info.path, keys), f"{s3_prefix}/datasets/{info.digest[:12]}.zarr"
    upload_latents(store, info.path, made)
    assert HeadDataset.open(url).has_latents
    s3.s3.delete_object(Bucket=BUCKET, Key=f"{place}/latents/manifest.json")
    assert not HeadDataset.open(url).has_latents
    s3.s3.delete_object(Bucket=BUCKET, Key=f"{place}/manifest.json")
    with pytest.raises(DatasetError, match="publishing is not complete"):
        HeadDataset.open(url)


def test_another_dataset_of_that_name_is_kept(open_s3: OpenStore, s3: S3Server, s3_prefix: str, tmp_path: Path) -> None:
    """Another dataset in the target's place is reported and kept."""
    store = open_s3()
    info, keys = published(store, tmp_path)
    name = f"{s3_prefix}/datasets/{info.digest[:12]}.zarr/manifest.json"
    other = (info.path / "manifest.json").read_text().replace(info.digest, "0" * 64).encode()
    s3.s3.put_object(Bucket=BUCKET, Key=name, Body=other)
    with pytest.raises(DatasetError, match="holds another dataset, of digest 0000"):
        upload_dataset(store, info.path, keys)
    assert s3.s3.get_object(Bucket=BUCKET, Key=name)["Body"].read() == other
