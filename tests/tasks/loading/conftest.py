"""A small dataset with latents, for the tests of the loader."""

from pathlib import Path

import pytest

from spinmeround.storage.dataset import HeadDataset, add_latents, publish
from tests.support.heads import write_all_latents, write_heads


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven heads with six views of 8 px, and latents."""
    root = tmp_path_factory.mktemp("loading")
    published = publish(root / "datasets", write_heads(root / "heads", range(11), views=6), {})
    ids = list(HeadDataset.open(published.path).ids)
    add_latents(published.path, write_all_latents(root / "latents", ids, views=6), "autoencoder")
    return published.path
