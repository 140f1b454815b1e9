"""Normals inside the model: their frames, and invariance to a rigid motion."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from spinmeround.models.diffusion.normals_frame import turn_normals, world2frame
from spinmeround.models.diffusion.params import NoiseSchedule, NormalsFrame
from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundOutput, SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from tests.models.diffusion.networks import TINY_PROMPT, tiny_autoencoder, tiny_text_encoder, tiny_unet

MOTION = Rotation.from_euler("zyx", (70.0, -40.0, 25.0), degrees=True).as_matrix().astype(np.float32)
FRAMES: tuple[NormalsFrame, ...] = get_args(NormalsFrame)


def pipeline(frame: str) -> SpinMeRoundPipeline:
    torch.manual_seed(0)
    made = SpinMeRoundPipeline(
        tiny_unet(ray_encoding="plucker"),  # the highest frequencies of the others amplify the rounding of poses
        tiny_autoencoder(),
        tiny_text_encoder(),
        TINY_PROMPT.model_dump(),
        normals_frame=frame,
    )
    made.set_progress_bar_config(disable=True)
    return made


def cameras(views: list[int]) -> Cameras:
    return ViewGrid(azimuths=10).cameras()[views]


def moved(found: Cameras) -> Cameras:
    motion = np.eye(4, dtype=np.float32)
    motion[:3, :3] = MOTION
    return replace(found, cam2world=motion @ found.cam2world)


def rotated(normals: np.ndarray) -> np.ndarray:
    """Encoded normals (n + 1) / 2, channels last, after the motion."""
    return (normals * 2 - 1) @ MOTION.T / 2 + 0.5


def test_frames_of_a_ball() -> None:
    """The normals of a ball look the same from everywhere in the camera's frame; in the reference's they are the first
    view's turned by the relative pose; the world's are unchanged. Turning back restores them."""
    poses = torch.from_numpy(cameras([0, 3, 7]).cam2world)
    ball = torch.nn.functional.normalize(torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(0)), dim=0)
    world = turn_normals(ball.expand(3, -1, -1, -1), poses[:, :3, :3])
    turned = {frame: turn_normals(world, world2frame(frame, poses)) for frame in FRAMES}
    torch.testing.assert_close(turned["camera"], ball.expand(3, -1, -1, -1))
    torch.testing.assert_close(turned["world"], world)
    relative = poses[0, :3, :3].mT @ poses[1, :3, :3]
    torch.testing.assert_close(turned["reference"][1], turn_normals(ball, relative))
    torch.testing.assert_close(turned["reference"][0], ball)
    for frame, normals in turned.items():
        torch.testing.assert_close(turn_normals(normals, world2frame(frame, poses).mT), world)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("given", [[], [0], [0, 3, 7]], ids=["identity alone", "one view", "three views"])
def test_a_rigid_motion_changes_neither_images_nor_relative_normals(frame: NormalsFrame, given: list[int]) -> None:
    """Cameras and given normals moved together: the same images, and the same normals moved. In the world frame the
    network sees the motion, so its results change."""
    model, random = pipeline(frame), np.random.default_rng(0)
    pictures = random.random((len(given), 8, 8, 3), np.float32)
    unit = random.normal(size=(len(given), 8, 8, 3)).astype(np.float32)
    encoded = unit / np.linalg.norm(unit, axis=-1, keepdims=True) / 2 + 0.5
    targets = cameras([view for view in range(1, 10) if view not in given][: 4 - len(given)])

    def sampled(turn: bool) -> SpinMeRoundOutput:
        poses, normals = cameras(given), encoded
        if turn:
            poses, normals = moved(poses), rotated(normals)
        views = PosedViews(cameras=poses, images=pictures, normals=normals) if given else None
        options: dict[str, Any] = {"schedule": NoiseSchedule(steps=2, sigma_max=2.0), "output_type": "np"}
        return model(
            moved(targets) if turn else targets,
            conditioning_views=views,
            anchored=False,
            generator=torch.Generator().manual_seed(0),
            **options,
        )

    still, turned = sampled(False), sampled(True)
    inside = ((still.normals > 0.05) & (still.normals < 0.95)).all(-1)  # others may be clipped
    assert inside.mean() > 0.5
    if frame == "world" and given:
        assert not np.allclose(turned.images, still.images, atol=1e-3)
    elif frame != "world":
        np.testing.assert_allclose(turned.images, still.images, atol=1e-4)
        np.testing.assert_allclose(turned.normals[inside], rotated(still.normals)[inside].clip(0, 1), atol=1e-4)


@pytest.mark.parametrize("frame", FRAMES)
def test_given_normals_are_returned_in_the_world_frame(frame: NormalsFrame) -> None:
    """A target at a given camera returns the given normals as the autoencoder decodes them, whatever the frame."""
    model, random = pipeline(frame), np.random.default_rng(1)
    pictures = random.random((2, 1, 8, 8, 3), np.float32)
    views = PosedViews(cameras=cameras([3]), images=pictures[0], normals=pictures[1])
    out = model(cameras([3]), conditioning_views=views, schedule=NoiseSchedule(steps=1), output_type="pt")
    rotations = world2frame(frame, torch.from_numpy(cameras([3]).cam2world))
    normals = turn_normals(torch.from_numpy(pictures[1]).movedim(-1, 1) * 2 - 1, rotations)
    with torch.no_grad():
        decoded = model.vae.decode(model.vae.encode(normals).latent_dist.mode()).sample
    expected = turn_normals(decoded, rotations.mT) / 2 + 0.5
    torch.testing.assert_close(out.normals, expected.clamp(0, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.given_normals, out.normals)


def test_an_unknown_frame_is_refused_and_an_older_pipeline_has_the_worlds(tmp_path: Any) -> None:
    """The frame is saved with a pipeline; one that was saved without it has the world's; another name is an error."""
    pipeline("reference").save_pretrained(tmp_path)
    assert SpinMeRoundPipeline.from_pretrained(tmp_path).normals_frame == "reference"
    index = tmp_path / "model_index.json"
    index.write_text(index.read_text().replace('"normals_frame": "reference"', '"other": 0'))
    assert SpinMeRoundPipeline.from_pretrained(tmp_path).normals_frame == "world"
    with pytest.raises(ValueError, match="normals_frame: expected one of camera, reference, world, got 'view'"):
        pipeline("view")
