"""`spinmeround ablate`: its options are fields of the profile."""

import pytest

from spinmeround.flows.cli.ablate import variant_overrides
from spinmeround.flows.profile import load_profile
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.ablation.params import VARIANTS
from spinmeround.tasks.evaluation.params import MODEL


def test_variants_are_those_of_the_options() -> None:
    """All by default; the table keeps its order; an unknown one is named with those that there are."""
    assert load_profile("demo", variant_overrides(None)).ablate.variants == VARIANTS
    some = load_profile("demo", variant_overrides(["without-normals", "without-image"])).ablate
    assert some.models == (MODEL, "without-image", "without-normals")
    with pytest.raises(ConfigError, match=r"ablate\.variants\.0: .*'without-normals', got 'with'"):
        load_profile("demo", variant_overrides(["with"]))


def test_an_evaluation_may_take_several_groups() -> None:
    """Ten views of a model of eight, but not more views than a head has, nor a group of given views alone."""
    assert load_profile("demo", ["evaluate.targets=10"]).evaluate.targets == 10
    with pytest.raises(ConfigError, match="evaluate: expected at most the 125 views of a head, got 131"):
        load_profile("demo", ["evaluate.targets=130"])
    groups = [f"train.{phase}.groups=[{{conditioning = 1, targets = 2}}]" for phase in ("single_view", "multi_view")]
    with pytest.raises(ConfigError, match=r"evaluate\.conditioning_views: expected fewer than .* 3, got 3"):
        load_profile("demo", [*groups, "train.unet.views=3", "evaluate.conditioning_views=3"])
