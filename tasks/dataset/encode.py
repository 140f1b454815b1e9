"""Latents for a dataset that no run built, such as one of photographed heads."""

from collections.abc import Callable
from pathlib import Path

from spinmeround.storage.dataset import HeadDataset, write_latents
from spinmeround.storage.errors import environment_errors
from spinmeround.storage.files import owned_folder
from spinmeround.tasks.heads.autoencoder import encode_views, load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path, publish_latents, published_latents


def encode_dataset(
    path: Path, params: EncodeParams, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> str:
    """Add the latents of all heads to a dataset, unless it has them; returns their digest.

    Heads without normals get the latents of background. Raises DatasetError for a dataset that cannot be read, and
    ConfigError for an autoencoder that can't be loaded.
    """
    data = HeadDataset.open(path)
    if (found := published_latents(path, params)) is not None:
        return found
    autoencoder = load_autoencoder(autoencoder_path(params))
    temp = data.path.absolute().parent / ".tmp"
    with environment_errors(path), owned_folder(temp, "encode") as folder:
        for subject, id in enumerate(data.ids):
            pictures = data.read_views(subject, range(data.views), ["rgb", "normals"])
            cam2world = data.cameras(subject)["cam2world"]
            frame = params.stored_frame
            latents = encode_views(
                autoencoder, pictures["rgb"], pictures["normals"], cam2world, frame=frame, batch=params.batch
            )
            write_latents(folder / id, *latents)
            on_progress(subject + 1, len(data))
        return publish_latents(path, {id: folder / id for id in data.ids}, params)
