"""The recognition network, its loss and its verification metric."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spinmeround.models.identity.params import RecognitionConfig
from spinmeround.models.identity.recognition import (
    ArcFaceLoss,
    RecognitionNetwork,
    additive_angular_margin,
    verification,
)

SMALL = RecognitionConfig(channels=(4, 4, 8), blocks=(0, 1, 0), embedding=16)


@given(angle=st.floats(0.01, math.pi - 0.6), margin=st.floats(0.0, 0.5))
def test_the_margin_is_added_to_the_angle(angle: float, margin: float) -> None:
    """cos(theta + m) at the crop's own identity, cos(theta) elsewhere."""
    cosine = torch.full((1, 3), math.cos(angle), dtype=torch.float64)
    penalised = additive_angular_margin(cosine, torch.tensor([1]), margin)
    assert penalised[0].tolist() == pytest.approx(
        [math.cos(angle), math.cos(angle + margin), math.cos(angle)], abs=1e-5
    )


def test_the_penalised_cosine_decreases_over_all_angles() -> None:
    """Also above pi - m, where cos(theta + m) itself increases."""
    angles = torch.linspace(0.01, math.pi - 0.01, 500)
    own = additive_angular_margin(angles.cos()[:, None], torch.zeros(500, dtype=torch.long), 0.5)[:, 0]
    assert (own.diff() < 0).all()


def test_the_loss_without_margin_is_softmax_cross_entropy() -> None:
    """Two orthogonal centres and an embedding equal to one of them give log(1 + exp(-scale))."""
    loss = ArcFaceLoss(2, 2, scale=3.0)
    with torch.no_grad():
        loss.centres.copy_(torch.eye(2) * 5)
    found = loss(torch.tensor([[7.0, 0.0]]), torch.tensor([0]), 0.0)
    assert found.item() == pytest.approx(math.log1p(math.exp(-3)), rel=1e-5)


def test_training_moves_embeddings_to_their_centres() -> None:
    """A few steps on separable crops lower the loss."""
    torch.manual_seed(0)
    network, loss = RecognitionNetwork(SMALL), ArcFaceLoss(4, 16, scale=8.0)
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]])
    labels = torch.arange(4).repeat(4)
    crops = colours[labels, :, None, None] + 0.1 * torch.randn(16, 3, 112, 112)
    optimiser = torch.optim.Adam([*network.parameters(), *loss.parameters()], lr=1e-2)
    losses = []
    for _ in range(12):
        value = loss(network(crops), labels, 0.2)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert losses[-1] < losses[0] / 2


def test_an_embedding_does_not_depend_on_its_batch() -> None:
    """In evaluation mode a crop has the same embedding alone and in a batch."""
    network = RecognitionNetwork(SMALL).eval()
    crops = torch.randn(5, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(crops)[2:3], network(crops[2:3]), atol=1e-5)


def test_verification_of_perfect_and_of_random_embeddings() -> None:
    """One direction per identity gives 1 in all metrics; random directions give an accuracy of about one half."""
    labels = np.repeat(np.arange(6), 4)
    perfect = verification(np.eye(6, dtype=np.float32)[labels] * 3, labels)
    assert (perfect.accuracy, perfect.tar_at_far_1e2, perfect.tar_at_far_1e3) == (1.0, 1.0, 1.0)
    assert (perfect.same_pairs, perfect.other_pairs) == (6 * 6, 15 * 16)
    random = np.random.default_rng(0).standard_normal((200, 64)).astype(np.float32)
    chance = verification(random, np.repeat(np.arange(50), 4))
    assert chance.accuracy < 0.6
    assert chance.tar_at_far_1e2 < 0.05


def test_verification_needs_both_kinds_of_pairs() -> None:
    """One crop per identity gives no pairs of the same identity, which raises an error."""
    with pytest.raises(ValueError, match="two crops of one identity"):
        verification(np.eye(3, dtype=np.float32), np.arange(3))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"channels": (8, 8), "blocks": (1, 1, 1)}, "expected equal lengths"),
        ({"channels": (8,) * 4, "blocks": (0,) * 4}, "expected 3 stages or fewer"),
    ],
    ids=["blocks", "stages"],
)
def test_impossible_sizes_are_refused(sizes: dict[str, tuple[int, ...]], message: str) -> None:
    """Invalid sizes raise an error that names the field."""
    with pytest.raises(ValueError, match=message):
        RecognitionConfig(**sizes)
