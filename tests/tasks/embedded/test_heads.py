"""The dataset of heads straight from the generator."""

from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals, world_normals_to_camera
from spinmeround.storage.dataset import HeadDataset, check_content, verify
from spinmeround.tasks.embedded.heads import make_heads_dataset
from spinmeround.tasks.embedded.params import HeadsParams, OrbitViews
from spinmeround.tasks.embedded.pictures import head_pictures, orbit_cameras
from spinmeround.tasks.heads.encode import EncodeParams

VIEWS = OrbitViews(views=6, resolution=32)


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def params() -> HeadsParams:
    return HeadsParams(views=VIEWS, heads=2, validation_share=0.3)


@pytest.fixture(scope="module")
def dataset(params: HeadsParams, encode_params: EncodeParams, tmp_path_factory: pytest.TempPathFactory) -> HeadDataset:
    info = make_heads_dataset(params, encode_params, tmp_path_factory.mktemp("heads"), quiet)
    return HeadDataset.open(info.path)


def test_it_is_an_ordinary_dataset(dataset: HeadDataset) -> None:
    """It has latents, and every check of `dataset verify` passes."""
    assert dataset.has_latents
    assert len(dataset) == 2
    assert verify(dataset.path) == []
    assert check_content(dataset)


def test_heads_are_those_of_the_pictures(dataset: HeadDataset, params: HeadsParams) -> None:
    """Round trip: the normals of the dataset, seen from each camera, are those of `head_pictures` to their rounding."""
    for subject, seed in enumerate(params.seeds):
        pictures, found = head_pictures(seed, VIEWS), dataset.read_views(subject, range(6))
        np.testing.assert_array_equal(found["rgb"], pictures[..., :3])
        cameras = Cameras(**dataset.cameras(subject))
        np.testing.assert_allclose(cameras.azimuth_deg, _within(orbit_cameras(seed, VIEWS).azimuth_deg), atol=1e-3)
        seen = world_normals_to_camera(decode_normals(found["normals"], found["mask"]), cameras)
        truth = decode_normals(pictures[..., 4:], pictures[..., 3])
        assert np.abs(seen - truth).max() < 0.015


def _within(azimuth: np.ndarray) -> np.ndarray:
    """Azimuths from -180 to 180 degrees."""
    return (azimuth + 180.0) % 360.0 - 180.0


def test_equal_parameters_give_an_equal_dataset(
    dataset: HeadDataset, params: HeadsParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """The digest is that of two rendering processes, too."""
    again = make_heads_dataset(params.model_copy(update={"workers": 2}), encode_params, tmp_path, quiet)
    assert again.digest == dataset.digest


def test_cameras_are_in_their_sectors_and_shared_if_asked() -> None:
    """One camera in each sixth of the circle, other ones for each head, or the same for all."""
    first, second = (orbit_cameras(seed, VIEWS).azimuth_deg for seed in (1, 2))
    assert (np.abs(first - 60.0 * np.arange(6)) <= 30.0).all()
    assert np.abs(first - second).min() > 0.0
    shared = VIEWS.model_copy(update={"shared": True})
    np.testing.assert_array_equal(orbit_cameras(1, shared).cam2world, orbit_cameras(2, shared).cam2world)
