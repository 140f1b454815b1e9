"""`spinmeround rehearse`: the production profile end to end on random weights and a miniature of PanoHead's source."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.tasks.heads.registry import HEAD_STAGES
from tests.support.mini_panohead import write_checkout


def rehearse(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["rehearse", *arguments])
    return result.exit_code, result.stdout, result.stderr or str(result.exception)


def test_small_rehearses_every_stage_and_part(tmp_path: Path) -> None:
    """Every stage and part has a row with its time and peak memory, the full run is extrapolated, no file remains."""
    checkout, scratch = write_checkout(tmp_path / "PanoHead", centre=(0.0, 0.0, 0.0)), tmp_path / "scratch"
    code, out, problem = rehearse(
        *("panohead", "--small", "--panohead-checkout", str(checkout), "--gpus", "8", "--scratch", str(scratch))
    )
    assert code == 0, problem
    rows = [line.split() for line in out.splitlines() if line.split()[0] not in ("total", "total:", "with", "train:")]
    stages = [stage.name for stage in HEAD_STAGES]
    assert [row[0] for row in rows] == ["stage", *stages, "train", "recolour", "generate", "evaluate"]
    assert all(float(row[1]) >= 0 and float(row[2]) > 50 for row in rows[1:])
    assert "total: 10000 heads of 125 views, on 8 x the device" in out
    assert "1 group of 8 views at once" in out
    assert "1 head of 8 views measured; x 15.625 for all views x 10,000 heads / " in out
    assert "days in 1 process (train.launch), one a device" in out
    assert "days in 8 (--set train.launch.launcher=torchrun --set train.launch.processes=8)" in out
    assert "train: 1,964,000 steps take" in out
    assert not [path for path in scratch.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--panohead-checkout", "x"], "--panohead-checkout: expected together with --stub or --small"),
        (["--small", "--panohead-checkout", "absent"], "expected PanoHead's source at absent, found no such folder"),
        (["--small"], "generator.options.checkout: expected PanoHead's source at weights/PanoHead"),
    ],
)
def test_user_errors_make_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    """The error says what to do, and no file is written."""
    monkeypatch.chdir(tmp_path)
    code, _, problem = rehearse("panohead", *arguments)
    assert code != 0
    assert message in problem
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
