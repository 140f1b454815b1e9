"""One table of several evaluations: known values, what is missing, and which orderings hold."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.ablation.compare import as_values, compared, orderings
from spinmeround.tasks.ablation.figure import ablation_figure, spread
from spinmeround.tasks.ablation.params import VARIANTS, AblateParams, ablation_views, variant_training
from spinmeround.tasks.ablation.table import ordering_table
from spinmeround.tasks.evaluation.params import MODEL, EvaluateParams, EvaluationResult
from spinmeround.tasks.training.params import InitialParams, TrainParams
from spinmeround.tasks.training.params.phases import AdaptPhase, MultiViewPhase, SingleViewPhase

HEADS = 12


def evaluation(psnr: float, normals: float | None, *, spread: float = 0.1, fid: float | None = None) -> Any:
    """An evaluation whose heads have these scores and a part that is the same in all evaluations."""
    drawn = np.random.default_rng(0).normal(size=HEADS)
    own = np.random.default_rng(int(psnr * 100)).normal(size=HEADS)
    heads = [
        {
            "id": f"head-{number:02d}",
            "conditioning": [1],
            "targets": [2, 3],
            "scores": {
                MODEL: {"psnr": psnr + 3 * drawn[number] + spread * own[number], "normal_angular_error_deg": normals},
                "mean_training_image": {"psnr": 10.0, "normal_angular_error_deg": 40.0},
            },
        }
        for number in range(HEADS)
    ]
    missing = {} if normals is not None else {"normal_angular_error_deg": f"{MODEL}: no normals were predicted"}
    means = {"psnr": psnr, "normal_angular_error_deg": normals, "fid": fid, "kid": None}
    return EvaluationResult(
        model=means,
        baselines={},
        methods={},
        intervals={},
        comparisons={},
        missing={**missing, "kid": "no network"},
        heads=heads,
    )


MODELS = {
    MODEL: evaluation(20.0, 10.0, fid=5.0),
    "without-image": evaluation(15.0, 10.5, fid=9.0),
    "without-identity": evaluation(20.5, 9.0),
    "without-normals": evaluation(20.0, None, spread=2.0),
}


def test_the_table_has_the_models_own_scores() -> None:
    """Means, paired differences and sets are those of each model; a metric that one lacks is named with its reason."""
    table = compared(MODELS)
    scores = {name: np.mean([head["scores"][MODEL]["psnr"] for head in each.heads]) for name, each in MODELS.items()}
    assert table.model["psnr"] == pytest.approx(scores[MODEL])
    for name in VARIANTS:
        assert table.methods[name]["psnr"] == pytest.approx(scores[name])
        difference = table.comparisons[name]["psnr"]["difference"]["mean"]
        assert difference == pytest.approx(scores[MODEL] - scores[name])
    assert table.methods["without-normals"]["normal_angular_error_deg"] is None
    assert table.missing["normal_angular_error_deg"] == "without-normals: no normals were predicted"
    assert (table.model["fid"], table.methods["without-image"]["fid"]) == (5.0, 9.0)
    assert table.missing["kid"] == "no network"


def test_orderings_hold_where_the_interval_excludes_zero() -> None:
    """5 dB better; half a decibel and a degree worse; the same but for noise: undecided. Lower errors are better."""
    found = {(each.metric, each.variant): each.holds for each in orderings(compared(MODELS))}
    assert found[("psnr", "without-image")] is True
    assert found[("normal_angular_error_deg", "without-image")] is True
    assert found[("psnr", "without-identity")] is False
    assert found[("normal_angular_error_deg", "without-identity")] is False
    assert found[("psnr", "without-normals")] is None
    assert ("normal_angular_error_deg", "without-normals") not in found
    header, rows = ordering_table(as_values(orderings(compared(MODELS))))
    assert len(header) == 6
    by_name = {(row[0], row[1]): row[-1] for row in rows}
    assert by_name[("PSNR", "without input image")] == "the model is better"
    assert by_name[("PSNR", "without identity")] == "the variant is better"
    assert by_name[("PSNR", "without normals")] == "not decided"


def test_evaluations_of_other_views_are_refused() -> None:
    """They could not be compared head by head."""
    other = replace(MODELS["without-image"], heads=[{**head, "targets": [4]} for head in MODELS[MODEL].heads])
    with pytest.raises(SpinMeRoundError, match="same views of the same heads, found others for without-image"):
        compared({MODEL: MODELS[MODEL], "without-image": other})


def test_a_variant_differs_in_one_parameter() -> None:
    """The others, steps and seed among them, stay; the model that ships is no beginning for any."""
    train = TrainParams()
    assert variant_training(train, MODEL) == train
    for name, changes in (
        ("without-image", {"conditioned_on": "identity"}),
        ("without-identity", {"conditioned_on": "image"}),
        ("without-normals", {"unet": train.unet.model_copy(update={"normals": False})}),
    ):
        assert variant_training(train, name) == train.model_copy(update=changes)
    embedded = TrainParams(initial=InitialParams(unet="embedded", zero_pose=True))
    for name in (MODEL, *VARIANTS):
        assert variant_training(embedded, name).initial == InitialParams(unet="random", zero_pose=True)


def test_a_profile_that_is_a_variant_is_refused() -> None:
    """And so is one that trains no model of several views."""
    with pytest.raises(ConfigError, match=r"train\.conditioned_on: expected the default for an ablation"):
        variant_training(TrainParams(conditioned_on="image"), MODEL)
    unet = TrainParams().unet.model_copy(update={"normals": False})
    with pytest.raises(ConfigError, match=r"train\.unet\.normals: expected the default"):
        variant_training(TrainParams(unet=unet), MODEL)
    alone = TrainParams(adapt=AdaptPhase(), single_view=SingleViewPhase(steps=0), multi_view=MultiViewPhase(steps=0))
    with pytest.raises(ConfigError, match="expected steps in single_view or multi_view"):
        variant_training(alone, MODEL)


def test_the_views_are_the_papers() -> None:
    """A hundred heads, one frontal input, ten views, each on the input alone; sampling is the profile's."""
    mine = EvaluateParams(seed=3, heads=4, conditioning_views=3, predictions={"other": "folder"})
    found = ablation_views(mine, AblateParams())
    assert (found.heads, found.conditioning_views, found.targets, found.frontal_input) == (100, 1, 10, True)
    assert (found.anchored, found.predictions, found.seed) == (False, {}, 3)
    with pytest.raises(ValueError, match="expected one or more different variants"):
        AblateParams(variants=("without-image", "without-image"))


def test_the_figure_has_a_column_for_each_model() -> None:
    """Pictures of one colour each appear in their columns: input, truth, then the models in order."""
    side, columns = 128, {"input": 250, "truth": 200, MODEL: 150, "without-image": 100}

    def grey(value: int, *shape: int) -> np.ndarray:
        return np.full((*shape, side, side, 3), value, np.uint8)

    common = {
        "input_rgb": grey(250, 2, 1),
        "true_rgb": grey(200, 2, 4),
        "azimuth_deg": np.tile([180.0, 0.0, 350.0, 90.0], (2, 1)),
        "elevation_deg": np.zeros((2, 4)),
    }
    pictures = {name: {**common, "generated_rgb": grey(columns[name], 2, 4)} for name in (MODEL, "without-image")}
    sheet = np.asarray(ablation_figure(pictures, ["head-1", "head-2"], heads=1, views=2))
    middle = 12 + side // 2
    shown = [int(sheet[middle, 12 + number * (side + 12) + side // 2, 0]) for number in range(len(columns))]
    assert shown == list(columns.values())
    assert spread(np.array([180.0, 0.0, 350.0, 90.0]), 2) == [1, 0]
    assert spread(np.array([180.0, 0.0, 350.0, 90.0]), 9) == [1, 2, 3, 0]
