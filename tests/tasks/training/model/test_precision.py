"""The rounding of float32 is set for all of torch's libraries alike."""

from collections.abc import Iterator

import pytest
import torch

from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.model.precision import set_precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    set_precision("float32", CPU)


@pytest.mark.parametrize(("precision", "is_rounded"), [("float32", False), ("tf32", True), ("bfloat16", False)])
@pytest.mark.filterwarnings("ignore:.*bfloat16")
def test_all_libraries_round_alike(precision, is_rounded):
    """torch raises where two of them differ, as the export to ONNX asks it to tell."""
    set_precision(precision, CPU)
    assert torch.backends.cudnn.allow_tf32 is is_rounded
    assert torch.backends.cuda.matmul.allow_tf32 is is_rounded


def test_float16_needs_a_gpu():
    """A CPU has no units for it."""
    with pytest.raises(ConfigError, match="expected float32 or bfloat16 on a CPU"):
        set_precision("float16", CPU)
