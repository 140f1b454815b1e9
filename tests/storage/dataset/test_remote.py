"""A dataset in an object store (a local moto server) reads the same as on a disk."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from spinmeround.storage.dataset import HeadDataset, add_latents, publish
from spinmeround.storage.dataset.remote import RemoteFiles
from spinmeround.storage.errors import DatasetError, StorageUnavailable
from tests.support.heads import write_all_latents, write_heads

ARRAYS = ("rgb", "normals", "mask", "identity_views", "latents/rgb")


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    """obstore's options for the test server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "endpoint": f"http://{host}:{port}",
        "access_key_id": "key",
        "secret_access_key": "secret",
        "region": "us-east-1",
        "client_options": {"allow_http": True},
    }
    server.stop()


@pytest.fixture(scope="module")
def bucket(options: dict[str, Any]) -> Any:
    s3 = boto3.resource(
        "s3",
        endpoint_url=options["endpoint"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    return s3.create_bucket(Bucket="heads")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, bucket: Any) -> Path:
    """A published dataset with latents, uploaded as v1.zarr."""
    root = tmp_path_factory.mktemp("remote")
    published = publish(root / "datasets", write_heads(root / "heads", range(3)), {})
    ids = list(HeadDataset.open(published.path).ids)
    add_latents(published.path, write_all_latents(root / "latents", ids), "autoencoder")
    for file in sorted(path for path in published.path.rglob("*") if path.is_file()):
        bucket.upload_file(str(file), f"v1.zarr/{file.relative_to(published.path).as_posix()}")
    return published.path


@pytest.fixture
def remote(local: Path, options: dict[str, Any]) -> HeadDataset:
    return HeadDataset.open("s3://heads/v1.zarr", storage_options=options)


@pytest.mark.parametrize("threads", [1, 3])
def test_reads_what_the_local_one_reads(remote: HeadDataset, local: Path, threads: int) -> None:
    """Views, cameras, embeddings, seeds, digest and splits are the same."""
    here = HeadDataset.open(local)
    remote.threads = threads
    for subject, views in ((0, [3, 0]), (2, [1]), (2, [0, 1, 2, 3]), (1, [])):
        found, expected = remote.read_views(subject, views, ARRAYS), here.read_views(subject, views, ARRAYS)
        for name in ARRAYS:
            np.testing.assert_array_equal(found[name], expected[name])
    for name, rows in here.cameras(1).items():
        np.testing.assert_array_equal(remote.cameras(1)[name], rows)
    np.testing.assert_array_equal(remote.identities, here.identities)
    assert (remote.digest, list(remote.seeds), remote.ids) == (here.digest, list(here.seeds), here.ids)
    assert remote.latents_attributes() == here.latents_attributes()
    assert remote.split("train") == here.split("train")


def test_an_index_is_fetched_once(remote: HeadDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten samples of one head request each shard's index once, and never an entire shard."""
    remote.layout("rgb")
    fetched, original = [], RemoteFiles._fetch_index

    def spy(self: RemoteFiles, name: str, *arguments: Any) -> Any:
        fetched.append(name)
        return original(self, name, *arguments)

    monkeypatch.setattr(RemoteFiles, "_fetch_index", spy)
    monkeypatch.setattr(RemoteFiles, "read", None)
    for view in (0, 1, 2, 3, 0, 1, 2, 3, 0, 1):
        remote.read_views(1, [view], ["rgb"])
    assert fetched == ["rgb/c.1.0.0.0.0"]


def test_a_remote_dataset_can_be_pickled(remote: HeadDataset, local: Path) -> None:
    """The address and its options survive pickling; the client is created again."""
    again = pickle.loads(pickle.dumps(remote))
    expected = HeadDataset.open(local).read_views(1, [2], ["mask"])["mask"]
    np.testing.assert_array_equal(again.read_views(1, [2], ["mask"])["mask"], expected)


def test_missing_objects_are_reported(remote: HeadDataset, bucket: Any, options: dict[str, Any], local: Path) -> None:
    """A missing dataset, a missing or truncated shard, and operations of local datasets raise errors."""
    with pytest.raises(DatasetError, match=r"s3://heads/v2\.zarr/zarr\.json is missing"):
        HeadDataset.open("s3://heads/v2.zarr", storage_options=options)
    with pytest.raises(DatasetError, match="copy it to a folder"):
        remote.path  # noqa: B018
    shard = bucket.Object("v1.zarr/mask/c.1.0.0.0")
    content = shard.get()["Body"].read()
    try:
        shard.put(Body=content[:-20])
        with pytest.raises(DatasetError, match="head procedural-000001: mask: the index is damaged"):
            remote.read_views(1, [0], ["mask"])
        shard.delete()
        with pytest.raises(DatasetError, match=r"head procedural-000001: mask: s3://heads/v1\.zarr/mask.* is missing"):
            HeadDataset.open("s3://heads/v1.zarr", storage_options=options).read_views(1, [0], ["mask"])
    finally:
        shard.put(Body=content)


def test_an_unreachable_server_is_an_environment_error(options: dict[str, Any]) -> None:
    """An unreachable server is reported as StorageUnavailable, after retries."""
    gone = {**options, "endpoint": "http://127.0.0.1:9", "retry_config": {"max_retries": 1}}
    with pytest.raises(StorageUnavailable, match=r"s3://heads/v1\.zarr/zarr\.json: the object store failed; check"):
        HeadDataset.open("s3://heads/v1.zarr", storage_options=gone)


@pytest.mark.slow
def test_spawned_loader_workers(remote: HeadDataset, local: Path) -> None:
    """Two workers on the remote dataset produce the batches of the local one (slow: they import torch)."""
    from spinmeround.tasks.loading.loader import HeadLoader
    from spinmeround.tasks.loading.params import ViewParams

    params = ViewParams(views=2)
    expected = list(HeadLoader(HeadDataset.open(local), params, subjects=range(3), batch=1))
    found = list(HeadLoader(remote, params, subjects=range(3), batch=1, workers=2))
    assert len(found) == len(expected) == 3
    for one, other in zip(found, expected, strict=True):
        assert all(bool((one[name] == other[name]).all()) for name in other)


def test_no_secret_is_in_the_text_of_the_files() -> None:
    """Options may hold a secret key; logs and tracebacks show objects as text."""
    files = RemoteFiles("s3://bucket/dataset.zarr", {"access_key_id": "a", "secret_access_key": "hidden"})
    assert "hidden" not in repr(files)
    assert "s3://bucket/dataset.zarr" in repr(files)
