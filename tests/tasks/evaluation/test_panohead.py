"""Heads of PanoHead are evaluated where neither its checkout nor its checkpoint is, with stubs of the networks."""

from pathlib import Path

import pytest

from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.models.identity.params import DetectionParams
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadEntry, assemble, write_head
from spinmeround.tasks.evaluation.heads import Evaluated
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.run import run_evaluation
from spinmeround.tasks.heads.embed import EmbedParams
from tests.support.packs import write_pack
from tests.support.weights import write_recognition
from tests.tasks.conftest import head

PANOHEAD = {"name": "panohead", "options": {"name": "panohead"}, "provenance": {"network": "easy-khair-180.pkl"}}
PARAMS = EvaluateParams(heads=2, targets=3, frontal_targets=2, schedule=NoiseSchedule(steps=1))


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that says it comes from PanoHead, as one on another machine does."""
    root = tmp_path_factory.mktemp("panohead")
    entries = []
    for seed in range(4):
        write_head(root / str(seed), head(seed))
        entries.append(HeadEntry(id=f"procedural-{seed:06d}", folder=root / str(seed)))
    attributes = {"generator": PANOHEAD, "split": {"validation": 0.0, "test": 0.6}}
    return assemble(root / "heads.zarr", entries, attributes).path


@pytest.mark.parametrize("pack", [True, False], ids=["with a detector", "without"])
def test_an_evaluation_of_panohead_goes_to_the_end(pack: bool, heads: Path, pipeline: Path, tmp_path: Path) -> None:
    """With the profile's detector, identities are compared; without, the metric is missing with both reasons."""
    embed = EmbedParams(
        recognition=str(write_recognition(tmp_path / "recognition.onnx")),
        pack=str(write_pack(tmp_path / "pack")) if pack else "",
        detection=DetectionParams(threshold=1e-6),
    )
    evaluated = Evaluated(pipeline=pipeline, training={"multi-view": "0" * 64}, params=PARAMS, embed=embed)
    found = run_evaluation(ArtifactStore(tmp_path / "store"), heads, evaluated, tmp_path)
    if pack:
        assert -1.0 <= found.model["identity_similarity"] <= 1.0
        assert "identity_similarity" not in found.missing
    else:
        assert found.model["identity_similarity"] is None
        assert found.missing["identity_similarity"].startswith("the generator is not available")
        assert "embed.pack" in found.missing["identity_similarity"]
    assert found.model["l2"] > 0
