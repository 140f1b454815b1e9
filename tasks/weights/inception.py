"""The Inception network of FID and KID from a user's file, which passes the same checks as every network from outside.

The file is torch-fidelity's .pth, converted from the TensorFlow network of 2015-12-05 that published figures use.
Nothing is downloaded.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line
from spinmeround.storage.numbers import read_tensors
from spinmeround.storage.weights import check_values

if TYPE_CHECKING:
    from torch import nn

FILE = "weights-inception-2015-12-05-6726825d.pth"
_ADVICE = f"(torch-fidelity's {FILE}, from https://github.com/toshas/torch-fidelity/releases)"


def load_inception(file: str | None, *, field: str) -> "nn.Module | Missing":
    """The network, uint8 pictures to 2048 features, or the reason why it is missing.

    Raises ConfigError, whose message begins with `field`, for a file of anything else.
    """
    if file is None:
        return Missing(f"no weights configured for the Inception network {_ADVICE}")
    path = Path(file)
    if not path.is_file():
        return Missing(f"no weights for the Inception network at {path} {_ADVICE}")
    try:
        check_values(path, read_tensors(path))
        return _network(path)
    except SpinMeRoundError as error:
        raise ConfigError(f"{field}: {error}") from error


def _network(file: Path) -> "nn.Module":
    from torchmetrics.image.fid import NoTrainInceptionV3

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch-fidelity about torch.load
            network: nn.Module = NoTrainInceptionV3(
                name="inception-v3-compat",
                features_list=["2048"],
                feature_extractor_weights_path=str(file),
                antialias=False,  # pictures are resized as by the network's own code
            )
    except (RuntimeError, KeyError, ValueError) as error:
        raise SpinMeRoundError(
            f"{file}: expected torch-fidelity's Inception network {FILE}, found {one_line(error, 150)}"
        ) from error
    return network
