"""One head through all stages, read with zarr alone and compared with the generator's ground truth."""

import numpy as np
import pytest
import zarr
from pydantic import BaseModel, ConfigDict
from scipy import ndimage

from spinmeround.models.geometry.cameras import Cameras, ViewGrid, project
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.tasks.dataset.publish import Counts, PublishParams, dataset_attributes, publish
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.heads.mesh import load_mesh
from spinmeround.tasks.heads.normals import NormalsParams
from spinmeround.tasks.heads.registry import DATASET_STAGES
from spinmeround.tasks.heads.render import RenderParams
from spinmeround.tasks.heads.sample import SampleParams
from spinmeround.tasks.heads.sample_files import load_identity
from spinmeround.tasks.heads.score import ScoreParams
from spinmeround.tasks.heads.screen import ScreenParams, load_verdict
from spinmeround.tasks.stage import Head, head_keys, make_head

HEAD = Head(id="procedural-000001", seed=1)


class Profile(BaseModel):
    """The sections that the dataset's stages read, at the size of the demo."""

    model_config = ConfigDict(frozen=True)

    generator: GeneratorConfig = GeneratorConfig(options={"defect_share": 0.0})
    views: ViewGrid = ViewGrid()
    sample: SampleParams = SampleParams()
    score: ScoreParams = ScoreParams()
    screen: ScreenParams = ScreenParams()
    render: RenderParams = RenderParams()
    mesh: MeshParams = MeshParams(resolution=128)
    normals: NormalsParams = NormalsParams()
    embed: EmbedParams = EmbedParams()
    publish: PublishParams = PublishParams()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A published dataset of one head: the store, the head's keys and the dataset's folder."""
    root, profile = tmp_path_factory.mktemp("built"), Profile()
    store = ArtifactStore(root / "store")
    sections = {stage.name: stage.sections(profile) for stage in DATASET_STAGES}
    keys = head_keys(DATASET_STAGES, HEAD, sections)
    for stage in DATASET_STAGES:
        make_head(store, stage, HEAD, sections[stage.name], {name: keys[name] for name in stage.inputs})
    named = {name: getattr(profile, name) for name in Profile.model_fields}
    cameras = profile.views.cameras()
    counts = Counts(asked=1, screened_out={}, dropped=0, quarantined=0, written=1)
    attributes = dataset_attributes(
        profile.generator, profile.views, profile.publish, sections=named, fingerprints={}, counts=counts
    )
    published = publish(store, [HEAD], {HEAD.id: keys}, cameras, attributes, root / "datasets")
    return store, keys, published


@pytest.fixture(scope="module")
def arrays(built):
    """The dataset's only head, read with `zarr.open` without this package."""
    group = zarr.open(built[2].path, mode="r")
    names = ("rgb", "normals", "mask", "cam2world", "intrinsics", "identity", "identity_views")
    found = {name: group[name][0] for name in names}
    return found | {"azimuth": group["azimuth"][:], "elevation": group["elevation"][:]}


@pytest.fixture(scope="module")
def cameras(arrays):
    return Cameras(
        cam2world=arrays["cam2world"],
        intrinsics=arrays["intrinsics"],
        azimuth_deg=arrays["azimuth"],
        elevation_deg=arrays["elevation"],
    )


def test_mesh_lands_inside_the_mask_in_all_views(built, arrays, cameras):
    """Every vertex inside a view projects onto the mask, within a pixel."""
    store, keys, _ = built
    pixels, _ = project(cameras, load_mesh(store.path("mesh", keys["mesh"])).vertices)
    side = arrays["mask"].shape[1]
    assert len(cameras) == 125
    for view, mask in enumerate(arrays["mask"]):
        near = ndimage.binary_dilation(mask > 0, structure=np.ones((3, 3)))
        column, row = np.floor(pixels[view] * side).astype(int).T
        shown = (column >= 0) & (column < side) & (row >= 0) & (row < side)
        assert shown.mean() > 0.5
        assert near[row[shown], column[shown]].all()


def test_mesh_fills_the_mask_in_all_views(built, arrays, cameras):
    """Every fully covered pixel has a vertex within a pixel."""
    store, keys, _ = built
    pixels, _ = project(cameras, load_mesh(store.path("mesh", keys["mesh"])).vertices)
    side = arrays["mask"].shape[1]
    for view, mask in enumerate(arrays["mask"]):
        column, row = np.floor(pixels[view] * side).astype(int).T
        shown = (column >= 0) & (column < side) & (row >= 0) & (row < side)
        seen = np.zeros((side, side), bool)
        seen[row[shown], column[shown]] = True
        assert ndimage.binary_dilation(seen, structure=np.ones((3, 3)))[mask == 255].all()


def test_normals_agree_with_the_analytic_gradient(built, arrays, cameras):
    """The median angle is below 2 degrees inside the mask, at the surface points given by the rendered depth."""
    store, keys, _ = built
    generator = make_generator(Profile().generator)
    identity = load_identity(store.path("sample", keys["sample"]))
    views = [0, 30, 52, 62, 70, 110]
    side = arrays["mask"].shape[1]
    depth = generator.render(identity, cameras[views], side).depth
    inside = (arrays["mask"][views] == 255) & np.isfinite(depth)
    centres = (np.arange(side) + 0.5) / side - 0.5
    x, y = np.meshgrid(centres, centres)
    focal = cameras.intrinsics[0, 0, 0]
    in_camera = np.stack(np.broadcast_arrays(x / focal, y / focal, np.ones_like(x)), axis=-1)[None] * depth[..., None]
    points = np.einsum("vij,vhwj->vhwi", cameras.cam2world[views, :3, :3], in_camera)
    points += cameras.cam2world[views, None, None, :3, 3]
    truth = generator.surface_normal(identity, points[inside].astype(np.float32))
    stored = arrays["normals"][views][inside] / 255.0 * 2 - 1
    stored /= np.linalg.norm(stored, axis=-1, keepdims=True)
    angle = np.degrees(np.arccos(np.clip((truth * stored).sum(axis=-1), -1, 1)))
    assert inside.sum() > 3000
    assert np.median(angle) < 2.0


def test_background_is_white_and_has_no_normal(arrays):
    """Under mask 0 RGB is white and normals are 128."""
    outside = arrays["mask"] == 0
    assert (arrays["rgb"][outside] == 255).all()
    assert (arrays["normals"][outside] == 128).all()


def test_identity_is_the_mean_of_the_frontal_views(arrays, cameras):
    """The identity is the normalised mean of the frontal views; every view up to 90 degrees is embedded, no other."""
    embedded = np.isfinite(arrays["identity_views"]).all(axis=1)
    azimuth = (cameras.azimuth_deg + 180) % 360 - 180
    frontal = (np.abs(azimuth) <= 30) & (np.abs(cameras.elevation_deg) <= 15.01)
    assert (embedded == (np.abs(azimuth) <= 90.001)).all()
    mean = arrays["identity_views"][frontal].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(arrays["identity"], mean / np.linalg.norm(mean), atol=1e-5)


def test_the_head_is_kept(built):
    """The tested head is one that a build keeps."""
    store, keys, _ = built
    assert load_verdict(store.path("screen", keys["screen"])).keep
