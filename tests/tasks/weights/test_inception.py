"""The network of FID and KID is loaded from a user's file, or missing with a reason, and never downloaded."""

from pathlib import Path

import pytest
import torch

from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.weights.inception import load_inception


def test_a_missing_file_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file, and with one that does not exist."""
    monkeypatch.setattr("torch.hub.download_url_to_file", None)
    for file in (None, str(tmp_path / "absent.pth")):
        found = load_inception(file, field="evaluate.inception_weights")
        assert isinstance(found, Missing)
        assert "weights-inception-2015-12-05" in found.reason


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"fc.weight": torch.ones(1008, 2048)}, "expected torch-fidelity's Inception network"),
        ({"fc.weight": torch.full((2, 2), torch.nan)}, "expected finite"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    """The error names the field and the file."""
    file = tmp_path / "inception.pth"
    torch.save(tensors, file)
    with pytest.raises(ConfigError, match=rf"^evaluate\.inception_weights: .*inception\.pth.*{message}"):
        load_inception(str(file), field="evaluate.inception_weights")
