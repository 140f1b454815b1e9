"""Generated pictures as bytes."""

import numpy as np
import pytest

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.pictures.contact_sheet import to_uint8


def test_generated_views_with_nan_are_refused() -> None:
    """Bytes have no NaN, so the check comes before the conversion."""
    assert to_uint8(np.array([0.0, 0.5, 1.2])).tolist() == [0, 128, 255]
    with pytest.raises(SpinMeRoundError, match=r"generated views, .*: pictures: expected finite numbers"):
        to_uint8(np.array([0.0, np.nan], np.float32))
