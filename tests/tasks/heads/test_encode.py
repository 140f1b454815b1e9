"""Latents of a head, and training of the autoencoder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spinmeround.models.diffusion.normals_frame import turn_normals, world2frame
from spinmeround.storage.dataset import HeadDataset, record_latents, record_version, stated_latents
from spinmeround.storage.errors import DatasetError, SpinMeRoundError
from spinmeround.tasks.embedded.autoencoder import (
    make_autoencoder,
    measure,
    standardise_latents,
    train_autoencoder,
    training_images,
)
from spinmeround.tasks.embedded.params import AutoencoderParams
from spinmeround.tasks.heads.autoencoder import as_images, encode_batches, load_autoencoder
from spinmeround.tasks.heads.encode import (
    ENCODE,
    EncodeParams,
    EncodeSections,
    autoencoder_fingerprint,
    autoencoder_path,
    latent_shape,
    publish_latents,
    published_latents,
)
from spinmeround.tasks.stage import Head, StageJob
from tests.support.weights import write_autoencoder
from tests.tasks.conftest import GRID

SMALL = AutoencoderParams(channels=(8, 8, 8, 8), latent_channels=4, steps=30, batch=4, learning_rate=4e-3)


def _pictures(count: int) -> np.ndarray:
    """Discs of random colours with a mask and normals that face the camera."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16] - 7.5
    inside = (x**2 + y**2 < 40)[None, :, :, None]
    rgb = np.where(inside, random.integers(0, 200, (count, 1, 1, 3)), 255)
    mask = np.broadcast_to(np.where(inside, 255, 0), (count, 16, 16, 1))
    normals = np.broadcast_to(np.where(inside, [128, 128, 255], 128), (count, 16, 16, 3))
    return np.concatenate([rgb, mask, normals], axis=-1).astype(np.uint8)


def test_stored_latents_are_those_of_the_pictures(dataset: Path, encode_params: EncodeParams) -> None:
    """The latents equal the posterior means of the stored pictures, with normals in the camera's frame, for any batch
    size, and record the autoencoder and the frame."""
    data = HeadDataset.open(dataset)
    arrays = data.read_views(3, [1, 5], ("rgb", "normals", "latents/rgb", "latents/normals"))
    autoencoder = load_autoencoder(autoencoder_path(encode_params))
    for name in ("rgb", "normals"):
        images = as_images(arrays[name])
        if name == "normals":
            images = turn_normals(images, world2frame("camera", torch.from_numpy(data.cameras(3)["cam2world"][[1, 5]])))
        expected = autoencoder.encode(images).latent.numpy()
        np.testing.assert_allclose(arrays[f"latents/{name}"], expected, atol=2e-3, rtol=2e-3)
        assert torch.allclose(encode_batches(autoencoder, images, 1), encode_batches(autoencoder, images, 2), atol=1e-5)
    assert data.latents_attributes()["autoencoder"] == autoencoder_fingerprint(encode_params)
    assert data.latents_attributes()["normals_frame"] == "camera"


def test_intact_latents_are_kept(dataset: Path, encode_params: EncodeParams, tmp_path: Path) -> None:
    """Intact latents of the same autoencoder are kept; damaged ones are joined again."""
    copy = Path(shutil.copytree(dataset, tmp_path / "heads.zarr"))
    before = (copy / "latents" / "manifest.json").stat()
    assert publish_latents(copy, {}, encode_params) == HeadDataset.open(copy).latents_digest
    assert (copy / "latents" / "manifest.json").stat().st_ino == before.st_ino
    (copy / "latents/rgb/c.3.0.0.0.0").unlink()
    with pytest.raises(DatasetError, match="expected latents of exactly its 12 heads"):
        publish_latents(copy, {}, encode_params)


def test_latents_that_versions_json_contradicts_are_joined_again(
    dataset: Path, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """They are whole by their own manifest, which may have been edited to match."""
    copy = Path(shutil.copytree(dataset, tmp_path / "heads.zarr"))
    opened = HeadDataset.open(copy)
    record_version(tmp_path, opened.digest, len(opened))
    assert publish_latents(copy, {}, encode_params) == stated_latents(tmp_path, opened.digest) == opened.latents_digest
    record_latents(tmp_path, opened.digest, "0" * 64)
    assert published_latents(copy, encode_params) is None


def test_the_shape_of_latents(encode_params: EncodeParams, tmp_path: Path) -> None:
    """Each level but one halves the side, for either class; None without an autoencoder."""
    assert latent_shape(encode_params) == (8, 4)
    assert latent_shape(EncodeParams()) == (4, 8)
    assert latent_shape(EncodeParams(autoencoder=str(write_autoencoder(tmp_path / "kl")))) == (4, 4)
    assert latent_shape(EncodeParams(autoencoder=str(tmp_path))) is None


def test_a_folder_without_autoencoder_is_rejected(tmp_path: Path) -> None:
    """The error names the field, the folder and the class that was found."""
    with pytest.raises(ValueError, match=r"encode\.autoencoder: .*config\.json, found none$"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "VQModel"}')
    with pytest.raises(ValueError, match=r"config\.json of AutoencoderKL or AutoencoderDC, found VQModel"):
        load_autoencoder(tmp_path)


def test_standardising_changes_latents_but_no_reconstruction() -> None:
    """Latents get zero mean and unit variance per channel; reconstructions do not change far from the border."""
    torch.manual_seed(0)
    autoencoder, views = make_autoencoder(SMALL).eval(), torch.from_numpy(_pictures(40)).tile(1, 10, 10, 1)
    images = training_images(views, torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = autoencoder.decode(autoencoder.encode(images).latent).sample
        standardise_latents(autoencoder, views, torch.Generator().manual_seed(2))
        latents = autoencoder.encode(images).latent
        after = autoencoder.decode(latents).sample
    inner = (..., slice(72, 88), slice(72, 88))
    assert torch.allclose(before[inner], after[inner], atol=1e-4)
    assert latents.mean((0, 2, 3)).abs().max() < 0.4
    assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.25


def test_training_lowers_the_error_and_is_reproducible() -> None:
    """Thirty steps beat two in RGB; the same seed gives the same weights."""
    pictures = _pictures(24)
    start = train_autoencoder(pictures, SMALL.model_copy(update={"steps": 2}))
    trained, again = (train_autoencoder(pictures, SMALL) for _ in range(2))
    assert measure(trained, pictures)["rgb_psnr_db"] > measure(start, pictures)["rgb_psnr_db"] + 0.5
    assert all(
        torch.equal(a, b) for a, b in zip(trained.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_training_images_are_of_three_kinds() -> None:
    """RGB has white or coloured corners, normals grey ones; all values are in [-1, 1]."""
    views = torch.from_numpy(_pictures(60))
    images = training_images(views, torch.Generator().manual_seed(0))
    corners = images[:, :, 0, 0]
    white = (corners == 1).all(1)
    grey = (corners - (128 / 127.5 - 1)).abs().amax(1) < 1e-5
    assert 8 < int(white.sum()) < 32
    assert 6 < int(grey.sum()) < 34
    assert int((~white & ~grey).sum()) > 8
    assert images.abs().max() <= 1


@pytest.mark.parametrize(
    ("gain", "message"),
    [(1e6, "latents: rgb: expected finite numbers"), (0.0, "latents: rgb: expected a picture, found the value -?0.0")],
    ids=["beyond float16", "blank"],
)
def test_latents_that_are_not_finite_or_blank_are_refused(
    dataset: Path, tmp_path: Path, gain: float, message: str
) -> None:
    """An autoencoder whose latents exceed float16, or are all zero: the stage fails with the head and the array."""
    folder = write_autoencoder(tmp_path / "vae")
    (file,) = folder.glob("*.safetensors")
    last = {
        name: gain * tensor if name.startswith("quant_conv") else tensor for name, tensor in load_file(file).items()
    }
    save_file(last, file)
    head = HeadDataset.open(dataset).ids[0]
    inputs = dict.fromkeys(("render", "normals"), dataset.parent / head)
    sections = EncodeSections(views=GRID, encode=EncodeParams(autoencoder=str(folder)))
    with pytest.raises(SpinMeRoundError, match=f"encode {head}: {message}"):
        ENCODE.make(StageJob(head=Head(id=head, seed=0), sections=sections, inputs=inputs, out=tmp_path / "out"))
