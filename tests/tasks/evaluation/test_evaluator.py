"""Scores of perfect predictions and of known corruptions, against what theory says."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from spinmeround.models.geometry.normals import encode_normals
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation.evaluator import Evaluator
from spinmeround.tasks.evaluation.params import Metrics
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import EvaluationViews
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import ViewImages
from tests.support.weights import write_recognition

SIDE, VIEWS = 64, EvaluationViews(subject=1, conditioning_indices=[0], targets=[6, 7, 11])


@pytest.fixture(scope="module")
def evaluate(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    weights = write_recognition(tmp_path_factory.mktemp("weights") / "recognition.onnx")
    return Evaluator(HeadDataset.open(dataset), EmbedParams(recognition=str(weights)), None)


def head(seed: int) -> ViewImages:
    """Three smooth textures of values that noise of 20 does not clip, a square mask, and unit normals under it."""
    random = np.random.default_rng(seed)
    texture = gaussian_filter(random.normal(size=(3, SIDE, SIDE, 3)), (0, 2, 2, 0))
    rgb = np.clip(128 + 200 * texture, 30, 225).astype(np.uint8)
    mask = np.zeros((3, SIDE, SIDE), np.uint8)
    mask[:, 16:48, 16:48] = 255
    normals = random.normal(size=(3, SIDE, SIDE, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return ViewImages(rgb=rgb, normals=encode_normals(normals, mask), mask=mask)


TRUTH = head(0)


def score(evaluate: Evaluator, rgb: np.ndarray = TRUTH.rgb, **changes: np.ndarray) -> Metrics:
    given = {"normals": TRUTH.normals, "mask": TRUTH.mask, **changes}
    return evaluate(VIEWS, Prediction(rgb=rgb, **given), TRUTH).metrics


def test_a_perfect_prediction_has_the_best_values(evaluate: Evaluator) -> None:
    """Each metric is at its end of the range."""
    found = score(evaluate)
    assert found.pop("lpips") is None
    assert found.pop("normal_angular_error_deg") == pytest.approx(0.0, abs=1e-3)
    assert found.pop("consistency") == evaluate.of_truth(VIEWS, TRUTH).metrics["consistency"]
    best = {"l2": 0.0, "psnr": 100.0, "ssim": 1.0, "identity_similarity": 1.0, "mask_iou": 1.0}
    assert found == pytest.approx(best, abs=1e-5)


def test_the_values_of_views_are_those_of_each_alone(evaluate: Evaluator) -> None:
    """A prediction that is wrong in one view has the best value in the others; means over views are the head's value,
    and views that show no face have no identity similarity."""
    wrong = TRUTH.rgb.copy()
    wrong[1] = 255 - wrong[1]
    found = evaluate(VIEWS, Prediction(rgb=wrong, normals=TRUTH.normals, mask=TRUTH.mask), TRUTH)
    assert found.views["psnr"][0] == found.views["psnr"][2] == 100.0
    assert found.views["psnr"][1] < 20
    for name in ("l2", "psnr", "ssim", "mask_iou", "identity_similarity"):
        known = [value for value in found.views[name] if value is not None]
        assert found.metrics[name] == pytest.approx(np.mean(known)), name
    assert len(found.views["normal_angular_error_deg"]) == len(VIEWS.targets)
    assert "lpips" not in found.views


def test_noise_has_its_variance(evaluate: Evaluator) -> None:
    """Of noise of +-20 grey levels, L2 is (20 / 255)^2 and PSNR 20 log10(255 / 20)."""
    noise = np.random.default_rng(1).choice([-20, 20], TRUTH.rgb.shape)
    found = score(evaluate, (TRUTH.rgb + noise).astype(np.uint8))
    assert found["l2"] == pytest.approx((20 / 255) ** 2)
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 20))
    assert found["ssim"] < 0.9


def test_more_blur_is_worse(evaluate: Evaluator) -> None:
    """L2 rises and SSIM falls with the width of the blur."""
    found = [
        score(evaluate, gaussian_filter(TRUTH.rgb.astype(float), (0, width, width, 0)).astype(np.uint8))
        for width in (0.5, 1.0, 2.0, 4.0)
    ]
    assert (np.diff([each["l2"] for each in found]) > 0).all()
    assert (np.diff([each["ssim"] for each in found]) < 0).all()


@pytest.mark.parametrize("pixels", [1, 4, 16])
def test_a_shifted_mask_overlaps_by_its_width(evaluate: Evaluator, pixels: int) -> None:
    """A square of side w shifted by k has IoU (w - k) / (w + k); its picture has what numpy computes."""
    found = score(evaluate, np.roll(TRUTH.rgb, pixels, axis=2), mask=np.roll(TRUTH.mask, pixels, axis=2))
    assert found["mask_iou"] == pytest.approx((32 - pixels) / (32 + pixels))
    difference = np.roll(TRUTH.rgb, pixels, axis=2).astype(float) - TRUTH.rgb
    assert found["l2"] == pytest.approx((difference**2).mean() / 255**2)


def test_flipped_normals_are_opposite(evaluate: Evaluator) -> None:
    """-n is 180 degrees off, and a flipped x axis 2 asin |x|."""
    true = TRUTH.normals.astype(float) / 255 * 2 - 1
    flipped = score(evaluate, normals=encode_normals(-true, TRUTH.mask))
    assert flipped["normal_angular_error_deg"] == pytest.approx(180.0, abs=1.0)
    mirrored = score(evaluate, normals=encode_normals(true * [-1, 1, 1], TRUTH.mask))
    x = np.abs(true[TRUTH.mask == 255][:, 0]).clip(max=1)
    assert mirrored["normal_angular_error_deg"] == pytest.approx(np.degrees(2 * np.arcsin(x)).mean(), abs=1.0)


def test_another_identity_is_less_similar(evaluate: Evaluator) -> None:
    """Another head's pictures lower the similarity; swapping the two heads changes no L2."""
    other = head(5)
    swapped = score(evaluate, other.rgb)
    assert swapped["identity_similarity"] < 0.99
    back = evaluate(VIEWS, Prediction(rgb=TRUTH.rgb), other).metrics
    assert swapped["l2"] == pytest.approx(back["l2"])


def test_swapped_views_are_compared_with_their_own_truth(evaluate: Evaluator) -> None:
    """Views in another order score the mean over the wrong pairs, not zero."""
    found = score(evaluate, TRUTH.rgb[[1, 2, 0]])
    pairs = [((TRUTH.rgb[a].astype(float) - TRUTH.rgb[b]) ** 2).mean() / 255**2 for a, b in ((1, 0), (2, 1), (0, 2))]
    assert found["l2"] == pytest.approx(np.mean(pairs))


def test_a_prediction_of_pictures_alone_has_reasons(evaluate: Evaluator) -> None:
    """Without normals and masks, the metrics of these are missing by name."""
    found = evaluate(VIEWS, Prediction(rgb=TRUTH.rgb), TRUTH)
    assert found.missing.keys() == {"lpips", "normal_angular_error_deg", "mask_iou"}
    assert {name for name, value in found.metrics.items() if value is None} == found.missing.keys()


def test_a_mask_follows_from_normals(evaluate: Evaluator) -> None:
    """Encoded normals are zero in the background, which gives the mask of a prediction without one."""
    found = evaluate(VIEWS, Prediction(rgb=TRUTH.rgb, normals=TRUTH.normals), TRUTH).metrics
    assert found["mask_iou"] == 1.0
