"""The baseline that fits the generator: its folder is a method's, and an interrupted run goes on."""

from pathlib import Path

import numpy as np
import pytest

from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.inversion import write_inversions
from spinmeround.tasks.evaluation.methods import MethodFolder
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.views import choose_views
from spinmeround.tasks.heads.embed import EmbedParams

PARAMS = EvaluateParams(heads=2, targets=2, frontal_targets=1)
QUICK = {"candidates": 1, "steps": 0}


def written(dataset: Path, target: Path, params: EvaluateParams = PARAMS, **options: object) -> int:
    return write_inversions(dataset, params, EmbedParams(), GeneratorConfig(), {**QUICK, **options}, target)


def test_the_folder_is_scored_as_any_method(dataset: Path, tmp_path: Path) -> None:
    """All wanted pictures, with masks and normals; made once, and a missing head is made again, equal."""
    target, data = tmp_path / "inversion", HeadDataset.open(dataset)
    chosen = choose_views(data, PARAMS, EmbedParams().frontal)
    assert written(dataset, target) == 2
    head = data.ids[chosen[0].subject]
    first = MethodFolder("inversion", target, data, chosen).read(head, chosen[0].targets)
    assert first.mask is not None
    assert first.normals is not None
    assert written(dataset, target) == 0
    for path in (target / head).iterdir():
        path.unlink()
    (target / head).rmdir()
    assert written(dataset, target) == 1
    again = MethodFolder("inversion", target, data, chosen).read(head, chosen[0].targets)
    assert np.array_equal(first.rgb, again.rgb)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": PARAMS.model_copy(update={"conditioning_views": 0})}, "expected a view to fit"),
        ({"stpes": 3}, r"--option stpes: unknown field"),
        ({"steps": -1}, r"--option steps: .*greater than or equal to 0"),
    ],
)
def test_what_can_not_be_fitted_is_refused(dataset: Path, tmp_path: Path, change: dict, message: str) -> None:
    """Without a given view, and for options that the generator does not take."""
    with pytest.raises(ConfigError, match=message):
        written(dataset, tmp_path / "inversion", **change)


def test_a_generator_without_the_method_is_named(dataset: Path, tmp_path: Path) -> None:
    """One of the plain protocol."""
    own = GeneratorConfig(name="tests.tasks.evaluation.test_inversion:Plain")
    with pytest.raises(ConfigError, match=r"generator\.name: expected one that can be fitted"):
        write_inversions(dataset, PARAMS, EmbedParams(), own, QUICK, tmp_path / "inversion")


class Plain:
    """A generator with the methods of the protocol and no more."""

    name, fingerprint, box_warp = "plain", "0", 1.0

    def sample(self, seed: int): ...
    def render(self, identity, cameras, resolution): ...
    def density(self, identity, points): ...
    def landmarks(self, identity): ...
