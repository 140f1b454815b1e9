"""The embed stage: source of landmarks, skipped views, and errors."""

from pathlib import Path

import numpy as np
import pytest
from numpy.lib.npyio import NpzFile

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.dataset import PixelCodec, write_pictures
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Identity
from spinmeround.tasks.heads.embed import EMBED, EmbedParams, EmbedSections
from spinmeround.tasks.heads.sample_files import write_identity
from spinmeround.tasks.stage import Head, StageJob
from tests.support.packs import write_pack

FACE = np.array([[-0.06, 0.05, 0.2], [0.06, 0.05, 0.2], [0, 0, 0.25], [-0.05, -0.06, 0.2], [0.05, -0.06, 0.2]])
VIEWS = ViewGrid(azimuths=5, elevations_deg=(-10.0, 0.0, 10.0))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("packs") / "pack")


def pictures(faces: list[int]) -> np.ndarray:
    """White views of 64 pixels; the listed ones show a pattern in the middle."""
    rgb = np.full((VIEWS.views, 64, 64, 3), 255, np.uint8)
    rgb[faces, 16:48, 16:48] = np.random.default_rng(0).integers(0, 200, (len(faces), 32, 32, 3), dtype=np.uint8)
    return rgb


def embed(folder: Path, rgb: np.ndarray, params: EmbedParams, landmarks: np.ndarray | None = None) -> NpzFile:
    """The artifact of a head with these views, whose generator knows these landmarks."""
    for name in ("sample", "render", "out"):
        (folder / name).mkdir()
    write_identity(folder / "sample", Identity(seed=1, latent=np.zeros(1, np.float32)), landmarks)
    mask = np.full(rgb.shape[:3], 255, np.uint8)
    write_pictures(folder / "render", "test-000001", PixelCodec(), rgb=rgb, mask=mask)
    inputs = {name: folder / name for name in ("sample", "render")}
    head, out = Head(id="test-000001", seed=1), folder / "out"
    EMBED.make(StageJob(head=head, sections=EmbedSections(views=VIEWS, embed=params), inputs=inputs, out=out))
    return np.load(out / "identity.npz", allow_pickle=False)


FRONTAL = [0, 5, 10]
"""Of 5 azimuths, 72 degrees apart, on 3 rings: one per ring."""


def test_the_detector_is_used_if_the_generator_knows_no_landmarks(tmp_path: Path, pack: Path) -> None:
    """Frontal views without a face are skipped and counted; the identity is the mean over the others. A view from the
    side that shows a face is embedded too, and does not count for the mean."""
    found = embed(tmp_path, pictures([0, 1, 10]), EmbedParams(pack=str(pack)))
    assert str(found["landmarks"]) == "detector"
    assert (int(found["frontal_views"]), int(found["views_without_face"])) == (3, 1)
    assert np.flatnonzero(np.isfinite(found["identity_views"]).all(axis=1)).tolist() == [0, 1, 10]
    assert np.linalg.norm(found["identity"]) == pytest.approx(1.0, abs=1e-6)


def test_a_head_without_a_face_is_rejected(tmp_path: Path, pack: Path) -> None:
    """The error gives the number of frontal views."""
    with pytest.raises(ValueError, match=r"no frontal view shows a face \(3 examined\)"):
        embed(tmp_path, pictures([1, 2]), EmbedParams(pack=str(pack)))


@pytest.mark.parametrize(
    ("landmarks", "whose"), [("auto", "generator"), ("generator", "generator"), ("detector", "detector")]
)
def test_source_of_landmarks(tmp_path: Path, pack: Path, landmarks: str, whose: str) -> None:
    """The generator's if it knows them, unless the detector is requested."""
    params = EmbedParams(pack=str(pack), landmarks=landmarks)
    found = embed(tmp_path, pictures(FRONTAL), params, FACE)
    assert str(found["landmarks"]) == whose
    assert int(found["views_without_face"]) == 0


def test_without_landmarks_and_detector_the_field_is_named(tmp_path: Path) -> None:
    """The error names the field to set."""
    with pytest.raises(ConfigError, match=r"generator knows no landmarks; .* embed\.pack"):
        embed(tmp_path, pictures(FRONTAL), EmbedParams())


def test_the_detector_enters_the_key_if_it_is_used(pack: Path) -> None:
    """A detector changes the fingerprint only if it is used."""

    def weights(**fields: str) -> str:
        return EMBED.weights(EmbedSections(views=VIEWS, embed=EmbedParams(**fields)))

    assert weights(pack=str(pack)) != weights()
    assert weights(pack=str(pack), landmarks="generator") == weights()
