import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.storage.records import Identity, Rendering


@pytest.fixture(scope="session")
def generator() -> ProceduralGenerator:
    return ProceduralGenerator(ProceduralOptions(defect_share=0.0))


@pytest.fixture(scope="session")
def identity(generator: ProceduralGenerator) -> Identity:
    return generator.sample(7)


@pytest.fixture(scope="session")
def cameras() -> Cameras:
    return orbit([0.0, 57.6, 180.0, 288.0, 0.0, 100.8], [0.0, -30.0, 0.0, 15.0, 30.0, 30.0])


@pytest.fixture(scope="session")
def rendering(generator: ProceduralGenerator, identity: Identity, cameras: Cameras) -> Rendering:
    return generator.render(identity, cameras, 48)


@pytest.fixture(scope="session")
def lattice() -> np.ndarray:
    """A regular grid of 32^3 points over the cube."""
    axis = np.linspace(-0.5, 0.5, 32, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
