"""Evaluation: the choice of views, the baselines, and the files it writes."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.models.diffusion.sampling.group_sampler import GroupSampler, ViewGroup
from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.identity.params import ViewRange
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.evaluation import run
from spinmeround.tasks.evaluation.baselines import MeanTrainingImages, nearest_input_view
from spinmeround.tasks.evaluation.heads import Evaluated
from spinmeround.tasks.evaluation.model import predict_views
from spinmeround.tasks.evaluation.params import EvaluateParams, evaluation_key
from spinmeround.tasks.evaluation.run import run_evaluation
from spinmeround.tasks.evaluation.table import metric_table
from spinmeround.tasks.evaluation.views import choose_views
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.loading.view_images import ViewImages, read_views
from tests.support.weights import write_recognition

QUICK = EvaluateParams(heads=2, targets=3, frontal_targets=1, schedule=NoiseSchedule(steps=2))


def test_heads_are_held_out_and_their_views_differ(dataset: Path) -> None:
    """Only heads of the test split; conditioning and target views are disjoint; one target is frontal; reproducible."""
    data = HeadDataset.open(dataset)
    heads = choose_views(data, QUICK, ViewRange())
    azimuth = np.abs((data.cameras()["azimuth_deg"] + 180) % 360 - 180)
    assert heads == choose_views(data, QUICK, ViewRange())
    for views in heads:
        assert views.subject in data.split("test")
        assert len({*views.conditioning_indices, *views.targets}) == 4
        assert azimuth[views.conditioning_indices[0]] <= 90
        assert azimuth[views.targets].min() <= 30


def test_too_many_targets_are_refused(dataset: Path) -> None:
    """The error names the field and the number of views of the dataset."""
    with pytest.raises(DatasetError, match=r"evaluate\.targets"):
        choose_views(HeadDataset.open(dataset), EvaluateParams(targets=12), ViewRange())


def test_views_of_the_benchmarks(dataset: Path) -> None:
    """The input is the view nearest to the front, also of another seed; 0 targets are all other views, 0 heads all of
    the split, and all heads those of every split."""
    data = HeadDataset.open(dataset)
    front = data.nearest_view()
    frontal = QUICK.model_copy(update={"frontal_input": True, "heads": 0, "targets": 0, "seed": 5})
    chosen = choose_views(data, frontal, ViewRange())
    assert [views.subject for views in chosen] == data.split("test")
    for views in chosen:
        assert views.conditioning_indices == [front]
        assert sorted([front, *views.targets]) == list(range(data.views))
    everything = choose_views(data, frontal.model_copy(update={"split": "all"}), ViewRange())
    assert [views.subject for views in everything] == list(range(len(data)))
    drawn = [choose_views(data, QUICK.model_copy(update={"seed": seed}), ViewRange())[0] for seed in range(8)]
    assert len({views.conditioning_indices[0] for views in drawn}) > 1


def test_the_profile_defines_frontal_targets(dataset: Path) -> None:
    """With a range of `embed.frontal` that holds one view, that view is the first target."""
    data = HeadDataset.open(dataset)
    azimuth, elevation = data.cameras()["azimuth_deg"], data.cameras()["elevation_deg"]
    narrow = ViewRange(max_azimuth_deg=1.0, max_elevation_deg=1.0)
    for views in choose_views(data, QUICK.model_copy(update={"conditioning_views": 0}), narrow):
        assert (azimuth[views.targets[0]], elevation[views.targets[0]]) == (0, 0)


def test_the_key_depends_on_the_content_of_the_lpips_weights(tmp_path: Path) -> None:
    """A file that is added later changes the key, its path does not."""
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))

    def key(name: str) -> str:
        return evaluation_key(
            "digest", {"multi-view": "training"}, QUICK.model_copy(update={"lpips_weights": name}), embed
        )

    absent = key(str(tmp_path / "alex.pth"))
    assert absent == key(str(tmp_path / "elsewhere.pth"))
    for name in ("alex.pth", "copy.pth"):
        (tmp_path / name).write_bytes(b"weights")
    assert key(str(tmp_path / "alex.pth")) == key(str(tmp_path / "copy.pth")) != absent


def test_the_copied_view_is_the_nearest_and_its_normals_turn_with_the_camera() -> None:
    """Two conditioning views, a target next to each: the nearer is copied, a facing normal still faces the camera."""
    given = orbit([0.0, 90.0], [0.0, 0.0])
    targets = orbit([80.0, -20.0], [10.0, 0.0])
    facing = -given.cam2world[:, :3, 2]
    normals = np.rint((facing[:, None, None] + 1) / 2 * 255).astype(np.uint8) * np.ones((1, 4, 4, 1), np.uint8)
    mask = np.full((2, 4, 4), 255, np.uint8)
    rgb = np.zeros((2, 4, 4, 3), np.uint8) + np.array([10, 200], np.uint8)[:, None, None, None]
    copied = nearest_input_view(ViewImages(rgb=rgb, normals=normals, mask=mask), given, targets)
    assert copied.rgb[:, 0, 0, 0].tolist() == [200, 10]
    expected = -targets.cam2world[:, :3, 2]
    np.testing.assert_allclose(decode_normals(copied.normals, copied.mask)[:, 0, 0], expected, atol=0.02)


def test_the_mean_image_is_the_mean_over_the_training_heads(dataset: Path) -> None:
    """Equal to numpy's mean over all heads; normals that all heads share are unchanged."""
    data = HeadDataset.open(dataset)
    subjects = data.split("train")
    mean = MeanTrainingImages(data, subjects)([4, 2])
    truth = [read_views(data, subject, [4, 2]) for subject in subjects]
    expected = np.mean([images.rgb for images in truth], axis=0)
    np.testing.assert_allclose(mean.rgb, expected, atol=0.51)
    np.testing.assert_allclose(mean.normals.astype(int), truth[0].normals.astype(int), atol=2)


def test_evaluation_writes_what_the_report_reads(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """Model and both baselines have the same metrics; missing ones have a reason; equal seeds give equal numbers."""
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    evaluated = Evaluated(pipeline=pipeline, training={"multi-view": "0" * 64}, params=QUICK, embed=embed)
    first = run_evaluation(ArtifactStore(tmp_path / "first"), dataset, evaluated, tmp_path)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(written["baselines"]) == {"nearest_input_view", "mean_training_image"}
    for metrics in (written["model"], *written["baselines"].values()):
        assert set(metrics) == set(written["model"])
        assert {name for name, value in metrics.items() if value is None} <= set(written["missing"])
    assert "lpips" in written["missing"]
    assert [head["id"] for head in written["heads"]]
    with np.load(tmp_path / "pictures.npz", allow_pickle=False) as pictures:
        assert pictures["input_rgb"].shape[1:] == (1, 16, 16, 3)
        assert pictures["generated_normals"].shape[:2] == pictures["azimuth_deg"].shape == (len(written["heads"]), 3)
    assert run_evaluation(ArtifactStore(tmp_path / "second"), dataset, evaluated, tmp_path) == first


def test_means_and_intervals_are_those_of_the_heads(dataset: Path, pipeline: Path, tmp_path: Path) -> None:
    """Each mean is that of the heads' scores, within its interval; the model is compared with both baselines."""
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    evaluated = Evaluated(pipeline=pipeline, training={"multi-view": "0" * 64}, params=QUICK, embed=embed)
    found = run_evaluation(ArtifactStore(tmp_path / "store"), dataset, evaluated, tmp_path)
    for name, means in {"model": found.model, **found.baselines}.items():
        scores = [head["scores"][name]["psnr"] for head in found.heads]
        assert means["psnr"] == pytest.approx(np.mean(scores))
        interval = found.intervals[name]["psnr"]
        assert min(scores) - 1e-9 <= interval["low"] <= interval["mean"] <= interval["high"] <= max(scores) + 1e-9
    for name, baseline in found.baselines.items():
        difference = found.comparisons[name]["l2"]["difference"]["mean"]
        assert difference == pytest.approx(found.model["l2"] - baseline["l2"])
    assert {"fid", "kid"} <= set(found.missing)
    header, rows = metric_table(asdict(found))
    assert header[1:] == ["model", "nearest input view", "mean training image"]
    assert rows[0][0] == "L2"


def test_cameras_of_a_dataset_are_cameras(dataset: Path) -> None:
    """The dataset's camera arrays carry the names that Cameras takes."""
    assert len(Cameras(**HeadDataset.open(dataset).cameras())) == 12


@pytest.mark.parametrize(("given", "expected"), [(1, (3.0, 80.0)), (0, (3.5, 700.0))])
def test_the_model_is_sampled_as_the_pipeline_does(
    given: int,
    expected: tuple[float, float],
    dataset: Path,
    pipeline: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a conditioning view, guidance 3 from sigma 80; with none, 3.5 from 700."""
    seen: list[tuple[float, float]] = []

    def recorded(self: GroupSampler, groups: Sequence[ViewGroup], callback: Any) -> torch.Tensor:
        latents = groups[0].conditioning_latents
        seen.append((self.guidance_scale, self.schedule.highest(len(latents))))
        return torch.randn(len(groups), len(groups[0].cameras) - len(latents), *latents.shape[1:])

    monkeypatch.setattr(GroupSampler, "__call__", recorded)
    params, data = QUICK.model_copy(update={"conditioning_views": given}), HeadDataset.open(dataset)
    predict_views(load_pipeline(pipeline), data, choose_views(data, params, ViewRange())[0], params)
    assert seen == [expected]


class MeanColour(torch.nn.Module):
    """Three features of a picture."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.float().mean(dim=(2, 3)) / 255


def test_sets_have_distances_if_there_is_a_network(
    dataset: Path, pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FID and KID of all pictures of each prediction; without given views there is none to copy."""
    monkeypatch.setattr(run, "load_inception", lambda file, field: MeanColour())
    embed = EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))
    params = QUICK.model_copy(update={"conditioning_views": 0})
    evaluated = Evaluated(pipeline=pipeline, training={"multi-view": "0" * 64}, params=params, embed=embed)
    found = run_evaluation(ArtifactStore(tmp_path / "store"), dataset, evaluated, tmp_path)
    assert found.baselines.keys() == {"mean_training_image"}
    data = HeadDataset.open(dataset)
    subjects = {data.ids[subject]: subject for subject in range(len(data))}
    means = MeanTrainingImages(data, data.split("train"))
    features = [
        np.concatenate([images(head).mean(axis=(1, 2)) / 255 for head in found.heads])
        for images in (
            lambda head: means(head["targets"]).rgb,
            lambda head: read_views(data, subjects[head["id"]], head["targets"]).rgb,
        )
    ]
    assert found.baselines["mean_training_image"]["fid"] == pytest.approx(frechet(*features), rel=1e-3, abs=1e-6)
    assert not {"fid", "kid"} & set(found.missing)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of normal distributions with the moments of two samples."""
    first, second = (np.cov(each, rowvar=False) for each in (a, b))
    roots = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots)
