"""Similar identities: all pairs of a dataset, and generated heads beside the training heads nearest to them."""

import html
import re
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import orbit
from spinmeround.tasks.report import likeness
from spinmeround.tasks.report.data import ReportData
from spinmeround.tasks.report.likeness import compare_identities, read_likenesses, read_memorised, similarity_drawing
from spinmeround.tasks.report.render import render_report
from tests.tasks.report.synthetic import novel_views
from tests.tasks.report.test_coverage import dataset_of


def identities(heads: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(heads, 512)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [3, 16, 512])
def test_blocks_find_what_the_whole_matrix_has(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs, nearest heads and their histograms are those of the full matrix of similarities."""
    monkeypatch.setattr(likeness, "BLOCK", block)
    unit = identities(40)
    unit[31] = unit[4]
    found = compare_identities(unit, 5)
    similarity = unit.astype(np.float64) @ unit.T
    rows, columns = np.triu_indices(40, 1)
    order = np.argsort(-similarity[rows, columns])[:5]
    assert [pair[:2] for pair in found.closest] == [(rows[index], columns[index]) for index in order]
    assert found.closest[0] == (4, 31, pytest.approx(1.0, abs=1e-6))
    np.fill_diagonal(similarity, -2)
    edges = np.linspace(-1, 1, 101)
    assert found.pairs.sum() == len(rows)
    assert found.nearest.sum() == 40
    np.testing.assert_allclose(
        np.cumsum(found.nearest), np.cumsum(np.histogram(similarity.max(axis=1).clip(-1, 1), edges)[0]), atol=1
    )


def test_ties_are_in_the_order_of_the_heads() -> None:
    """Of equal heads, the first pairs are shown, and no more pairs than there are."""
    found = compare_identities(np.repeat(identities(1), 4, axis=0), 20)
    assert [pair[:2] for pair in found.closest] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert compare_identities(identities(6), 0).closest == ()


def test_memory_and_time_grow_with_the_heads_not_their_pairs() -> None:
    """2,000 heads, two million pairs, take well under the seconds that a loop over them would."""
    began = perf_counter()
    found = compare_identities(identities(2000), 6)
    assert found.pairs.sum() == 2000 * 1999 // 2
    assert perf_counter() - began < 5


def test_pairs_have_the_pictures_of_their_heads(tmp_path: Path) -> None:
    """Heads of a dataset with the similarities of their identities; without embeddings of views there is no scale."""
    dataset = dataset_of(tmp_path, [orbit([0.0, 90.0], [0.0, 0.0])] * 3)
    found = read_likenesses(dataset, 2)
    assert found is not None
    assert found.same_head is None
    assert [[each.caption for each in pair.pictures] for pair in found.closest] == [
        ["head-0", "head-1"],
        ["head-0", "head-2"],
    ]
    assert [pair.values for pair in found.closest] == [{"similarity": 0.0}] * 2
    assert not any(pair.remarkable for pair in found.closest)
    assert similarity_drawing(found).summary.endswith("a median similarity of 0.01.")
    assert read_likenesses(dataset_of(tmp_path / "one", [orbit([0.0], [0.0])]), 2) is None


def test_generated_heads_are_shown_beside_their_nearest_training_head(tmp_path: Path) -> None:
    """The first is the one that is nearest to a training head, and it is marked; reasons are passed on."""
    dataset = dataset_of(tmp_path, [orbit([0.0, 90.0], [0.0, 0.0])] * 3)
    views = [novel_views(1), novel_views(2)]
    common = {"nearest": "head-1", "true_nearest_similarity": 0.2}
    heads = [
        {"id": views[0].id, "own": 0.8, "nearest_similarity": 0.3, **common},
        {"id": views[1].id, "own": 0.4, "nearest_similarity": 0.6, **common},
    ]
    found = read_memorised(dataset, {"heads": heads, "missing": ""}, views)
    assert not isinstance(found, str)
    assert [each.remarkable for each in found] == [True, False]
    assert [each.caption for each in found[0].pictures] == [
        f"{views[1].id}, generated",
        f"{views[1].id}, truth",
        "head-1",
    ]
    front = int(np.argmin(np.abs(views[1].azimuth_deg)))
    np.testing.assert_array_equal(found[0].pictures[0].rgb, views[1].generated_rgb[front])
    assert read_memorised(dataset, {"heads": [], "missing": "no faces"}, views) == "no faces"
    assert read_memorised(dataset, None, views) == "the evaluation is of an earlier version"


def test_the_page_shows_pairs_and_memorised_heads(page: str, data: ReportData) -> None:
    """Values and warnings are text; an evaluation without identities gives its reason."""
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "3 heads, 3 pairs." in text
    assert "and one pair of heads is more similar than that." in text
    assert "procedural-000000 procedural-000001 similarity 0.95 as similar as two views of one head" in text
    assert "1 of 2 generated heads is nearer to a training head than to the true head." in text
    assert "truth 0.41 training head 0.62 nearer to the training head" in text
    assert "missing: no faces" in render_report(replace(data, memorised="no faces"))
