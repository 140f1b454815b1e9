"""The score stage: the trimmed grid, and recognition of the back of the head."""

import numpy as np

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.meshes import extract_mesh
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.tasks.heads.embed import recognition_path
from spinmeround.tasks.heads.score import ScoreParams, back_similarity, kept_box, trimmed

RING = ViewGrid(azimuths=8, elevations_deg=(0.0,)).cameras()


def similarity(seed, **options):
    generator = ProceduralGenerator(ProceduralOptions(**options))
    identity = generator.sample(seed)
    previews = generator.render(identity, RING, 64)
    return back_similarity(previews, RING, generator.landmarks(identity), recognition_path("embedded"))


def test_a_face_on_the_back_is_recognised():
    """A second face on the back raises the similarity of back and face."""
    twofold = similarity(5, defect_share=1.0, defect_kinds=("mirrored face",), defect_strengths=(1.0, 1.0))
    clean = similarity(5, defect_share=0.0)
    assert twofold > 0.7
    assert clean < twofold - 0.3


def test_missing_landmarks_give_no_similarity():
    """Landmarks that no view shows give None."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    previews = generator.render(generator.sample(5), RING, 16)
    nowhere = np.full((5, 3), np.nan, np.float32)
    assert back_similarity(previews, RING, nowhere, recognition_path("embedded")) is None


def test_the_trimmed_grid_is_the_meshed_one():
    """Trimming keeps exactly the samples that the mesh stage keeps with the same shares."""
    grid = np.full((33, 33, 33), 20.0, np.float32)
    kept = trimmed(grid, ScoreParams(trim_border=0.1, trim_top=0.2)) > 10.0
    mesh = extract_mesh(grid, 1.0, MeshParams(resolution=33, trim_border=0.1, trim_top=0.2))
    places = np.argwhere(kept) / 32 - 0.5
    np.testing.assert_allclose(mesh.vertices.min(axis=0), places.min(axis=0), atol=1e-3)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), places.max(axis=0), atol=1e-3)
    assert (trimmed(grid, ScoreParams()) == grid).all()


def test_the_kept_box_is_what_the_trim_leaves():
    """The box holds exactly the samples that are not emptied; without a trim it is the whole grid."""
    grid = np.full((33, 33, 33), 20.0, np.float32)
    params = ScoreParams(trim_border=0.1, trim_top=0.2)
    inside = np.zeros(grid.shape, bool)
    inside[kept_box(33, params)] = True
    np.testing.assert_array_equal(trimmed(grid, params) > 10.0, inside)
    assert kept_box(33, ScoreParams()) == (slice(0, 33),) * 3
