"""The documentation's example of a custom generator works by name and builds every artifact of a head."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import read_pictures
from spinmeround.tasks.heads.mesh import MESH, load_mesh
from spinmeround.tasks.heads.render import RENDER, RenderParams
from spinmeround.tasks.heads.sample import SAMPLE, SampleParams
from spinmeround.tasks.heads.sample_files import load_landmarks
from spinmeround.tasks.stage import Head, head_keys, make_head

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "generators.md"
STAGES = (SAMPLE, RENDER, MESH)


class Profile(BaseModel):
    """The sections that the stages read."""

    model_config = ConfigDict(frozen=True)

    generator: GeneratorConfig = GeneratorConfig(name="own_heads:make", options={"size": 0.22})
    views: ViewGrid = ViewGrid(azimuths=4, elevations_deg=(0.0,))
    sample: SampleParams = SampleParams(resolution=16)
    render: RenderParams = RenderParams(resolution=32)
    mesh: MeshParams = MeshParams(resolution=48)


@pytest.fixture
def own_heads(tmp_path, monkeypatch):
    """The example as an importable module, as a user would write it."""
    found = re.search(r"<!-- example: own_heads.py -->\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "own_heads.py").write_text(found.group(1))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_heads", None)


def test_documented_example_runs_through_the_stages(own_heads, tmp_path):
    """Named in a profile, its heads pass every stage; mesh and landmarks lie on its ellipsoids."""
    profile, head, store = Profile(), Head(id="ellipsoids-000005", seed=5), ArtifactStore(tmp_path / "store")
    generator = make_generator(profile.generator)
    assert isinstance(generator, HeadGenerator)
    sections = {stage.name: stage.sections(profile) for stage in STAGES}
    keys = head_keys(STAGES, head, sections)
    for stage in STAGES:
        inputs = {name: keys[name] for name in stage.inputs}
        assert make_head(store, stage, head, sections[stage.name], inputs) == "made"
        assert make_head(store, stage, head, sections[stage.name], inputs) == "reused"
    axes = generator.half_axes(generator.sample(5))
    vertices = load_mesh(store.open("mesh", keys["mesh"]).path).vertices
    np.testing.assert_allclose(np.linalg.norm(vertices / axes, axis=1), 1.0, atol=0.02)
    views = read_pictures(store.open("render", keys["render"]).path, "rgb", "mask")
    assert views["rgb"].shape == (4, 32, 32, 3)
    assert 0.1 < (views["mask"] == 255).mean() < 0.6
    landmarks = load_landmarks(store.open("sample", keys["sample"]).path)
    np.testing.assert_allclose(np.linalg.norm(landmarks / axes, axis=1), 1.0, atol=1e-5)


def test_pictures_of_the_page_exist():
    """Every picture of the page is in its folder and smaller than 300 kB."""
    pictures = [PAGE.parent / name for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE.read_text())]
    assert len(pictures) == 5
    assert all(picture.stat().st_size < 300_000 for picture in pictures)
