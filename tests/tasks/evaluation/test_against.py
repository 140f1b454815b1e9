"""Paired comparison of two evaluations."""

import json
from pathlib import Path
from typing import Any

import pytest

from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.against import against_table, read_result

pytestmark = pytest.mark.fast


def result(offset: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Six heads whose PSNR is 20 to 25 dB, without LPIPS."""
    views = {"conditioning": [0], "targets": [3, 4], **changes}
    return {
        "heads": [
            {"id": f"head-{seed}", **views, "scores": {"model": {"psnr": 20.0 + seed + offset, "lpips": None}}}
            for seed in range(6)
        ]
    }


def test_a_constant_gain_is_found_in_pairs() -> None:
    """Half a decibel on each of six heads: p = 2 / 2^6, an interval of no width; a metric that both lack has no row."""
    _, rows = against_table(result(0.5), result())
    assert rows == [["PSNR", "0.50", "0.50 to 0.50", "p = 0.031", "higher is better, 6 heads"]]


@pytest.mark.parametrize("theirs", [result(targets=[4, 3]), {"heads": result()["heads"][:5]}])
def test_other_views_or_heads_are_refused(theirs: dict[str, Any]) -> None:
    """The head is named, and what must be equal."""
    with pytest.raises(ConfigError, match=r"found head-\d with others"):
        against_table(result(), theirs)


def test_the_result_is_read_from_either_file(tmp_path: Path) -> None:
    """An evaluation.json has the fields at the top, a summary.json under its part; others are refused by name."""
    for name, content in (("evaluation.json", result()), ("summary.json", {"evaluation": result()})):
        (tmp_path / name).write_text(json.dumps(content))
        assert read_result(tmp_path / name) == result()
    for name, text in (("a.json", "[1]"), ("b.json", "{"), ("c.json", '{"evaluation": null}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match=rf"{name}: expected the evaluation\.json or the summary\.json"):
            read_result(tmp_path / name)
