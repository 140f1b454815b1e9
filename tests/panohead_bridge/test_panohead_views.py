"""Views of the checkout's network as bytes."""

import pytest
import torch

from spinmeround.panohead_bridge.panohead.network import Network

INTRINSICS = torch.tensor([[4.0, 0.0, 0.5], [0.0, 4.0, 0.5], [0.0, 0.0, 1.0]])
VIEW = {"image": torch.ones(1, 3, 4, 4), "image_mask": torch.ones(1, 1, 4, 4), "image_depth": torch.ones(1, 1, 4, 4)}


@pytest.mark.parametrize("name", ["image", "image_mask"])
def test_a_view_with_nan_is_refused(name: str) -> None:
    """Bytes have no NaN: without the check, a pixel that is not a number becomes black in silence."""
    network = object.__new__(Network)
    network.torch = torch
    assert (network.picture(VIEW, INTRINSICS, 4)["rgb"] == 255).all()
    spoiled = {**VIEW, name: VIEW[name].index_fill(2, torch.tensor([1]), float("nan"))}
    with pytest.raises(ValueError, match=r"expected finite pixels, .* check the weights"):
        network.picture(spoiled, INTRINSICS, 4)
