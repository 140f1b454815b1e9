"""The recognition network: its export to ONNX, its training, and the benchmark's comparison with the cards."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from insightface.model_zoo.arcface_onnx import ArcFaceONNX

from spinmeround.models.identity.params import RecognitionConfig
from spinmeround.models.identity.recognition import RecognitionNetwork
from spinmeround.tasks.embedded.params import FaceViews, RecognitionParams
from spinmeround.tasks.embedded.pictures import face_angles, face_crops, generator_fingerprint
from spinmeround.tasks.embedded.recognition import (
    as_input,
    augment,
    embed_crops,
    export_recognition,
    measure,
    train_recognition,
)
from spinmeround.tasks.embedded.train_all import EMBEDDED
from tests.benchmarks.embedded import comparison

SMALL = RecognitionConfig(channels=(4, 8, 8), blocks=(0, 1, 0))


def test_insightface_reads_the_export(tmp_path: Path) -> None:
    """ArcFaceONNX scales by 127.5, accepts any number of crops, and returns the network's own embeddings."""
    torch.manual_seed(0)
    network = RecognitionNetwork(SMALL)
    network.train()(torch.randn(8, 3, 112, 112))  # so that the running statistics differ from the initial ones
    (tmp_path / "recognition.onnx").write_bytes(export_recognition(network))
    reader = ArcFaceONNX(str(tmp_path / "recognition.onnx"))
    assert (reader.input_mean, reader.input_std, reader.input_size) == (127.5, 127.5, (112, 112))
    crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(as_input(torch.from_numpy(crops))).numpy()
    for count in (1, 3):
        found = reader.get_feat([np.ascontiguousarray(crop[..., ::-1]) for crop in crops[:count]])
        np.testing.assert_allclose(found, expected[:count], atol=1e-4)


def test_training_is_reproducible_and_separates_held_out_identities() -> None:
    """Identities are colour patterns: held-out ones are distinguished, and equal seeds give equal weights."""
    rng = np.random.default_rng(0)
    patterns = np.kron(rng.integers(40, 215, (16, 1, 7, 7, 3)), np.ones((1, 1, 16, 16, 1)))
    crops = np.clip(patterns + rng.normal(0, 10, (16, 6, 112, 112, 3)), 0, 255).astype(np.uint8)
    params = RecognitionParams(network=SMALL, epochs=4, batch=8, seed=3)
    network, again = (train_recognition(crops[:12], params) for _ in range(2))
    found = measure(partial(embed_crops, network), crops[12:], np.zeros((4, 6, 2), np.float32))
    assert found["accuracy"] > 0.9
    assert found["same_mean"] > found["other_mean"] + 0.3
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_what_embeddings_tell_of_pose_and_exposure() -> None:
    """Embeddings that are the identity alone tell nothing of the azimuth; those that are the azimuth tell all of it."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(-75, 75, (20, 6, 2)).astype(np.float32)
    crops = np.broadcast_to(rng.integers(0, 256, (20, 6, 1, 1, 3), dtype=np.uint8), (20, 6, 112, 112, 3)).copy()
    people = np.repeat(rng.normal(size=(20, 32)), 6, axis=0).astype(np.float32)
    sideways = np.deg2rad(angles[..., :1].reshape(-1, 1))
    turned = np.concatenate([np.cos(sideways), np.sin(sideways)], axis=1).astype(np.float32)
    only_people = measure(lambda _: people, crops, angles)
    only_pose = measure(lambda _: turned, crops, angles)
    assert (only_people["tar_at_far_1e3"], only_people["tar_at_far_1e3_within_45"]) == (1.0, 1.0)
    assert only_people["azimuth_r2"] < 0.1
    assert only_pose["azimuth_r2"] > 0.95
    assert only_pose["exposure_cosine"] == pytest.approx(1.0)


def test_crops_are_seen_from_the_angles_of_their_head() -> None:
    """Resolutions take turns, and each crop shows the view of its own angle, whatever its resolution."""
    fine, mixed = (
        FaceViews(views=4, landmark_jitter=0.0, resolutions=(96,)),
        FaceViews(views=4, landmark_jitter=0.0, resolutions=(96, 48)),
    )
    np.testing.assert_array_equal(face_angles(7, fine), face_angles(7, mixed))
    difference = np.abs(face_crops(7, fine).astype(int) - face_crops(7, mixed)).mean(axis=(1, 2, 3))
    assert difference[[0, 2]].max() == 0
    assert difference[[1, 3]].min() > 0
    assert difference[[1, 3]].max() < 25


def test_augmentation_is_bounded_and_reproducible() -> None:
    """Equal generator states give equal crops of the same shape, with values in [-1, 1]."""
    crops = torch.rand(4, 3, 32, 32) * 2 - 1
    first, second = (augment(crops, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == crops.shape
    assert first.abs().max() <= 1


def test_the_benchmark_compares_with_the_card() -> None:
    """A row has the metric's value on the shipped card and its current value, even for the same generator version."""
    for name, metric in (("recognition", "accuracy"), ("autoencoder", "rgb_psnr_db")):
        on_card = json.loads((EMBEDDED / f"{name}.json").read_text())["measured_on_unseen_heads"][metric]
        (row,) = comparison(name, {metric: -1.0})
        assert list(row.values()) == [metric, on_card, -1.0]
        assert list(row)[2] == f"now, {generator_fingerprint()}"
