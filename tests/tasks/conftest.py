"""A dataset of twelve small synthetic heads, with latents of an untrained autoencoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.storage.dataset import HeadArrays, HeadEntry, assemble, write_head
from spinmeround.tasks.embedded.autoencoder import make_autoencoder
from spinmeround.tasks.embedded.params import AutoencoderParams
from spinmeround.tasks.heads.encode import ENCODE, EncodeParams, EncodeSections, publish_latents
from spinmeround.tasks.stage import Head, StageJob
from spinmeround.tasks.training.params import TextEncoderParams, TrainParams
from spinmeround.tasks.training.params.phases import AdaptPhase, GroupParams, MultiViewPhase, SingleViewPhase
from spinmeround.tasks.training.run import run_training

SIDE = 16
GRID = ViewGrid(azimuths=6, elevations_deg=(-15.0, 0.0))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def head(seed: int) -> HeadArrays:
    """Coloured discs with the normals of a ball, from the cameras of GRID."""
    random, cameras = np.random.default_rng(seed), GRID.cameras()
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) * 2 - 1
    z = np.sqrt(np.maximum(0.8 - x**2 - y**2, 0))
    inside = z > 0
    ball = np.stack([x, y, -z], axis=-1) / np.sqrt(0.8)  # in the camera's frame
    world = np.einsum("vij,hwj->vhwi", cameras.cam2world[:, :3, :3], ball)
    normals = np.where(inside[..., None], np.rint((world + 1) / 2 * 255), 128).astype(np.uint8)
    colour = random.uniform(20, 220, (len(cameras), 1, 1, 3))
    rgb = np.where(inside[..., None], colour, 255).astype(np.uint8)
    identity = random.normal(size=512).astype(np.float32)
    return HeadArrays(
        id=f"procedural-{seed:06d}",
        seed=seed,
        rgb=rgb,
        mask=np.tile(np.where(inside, 255, 0).astype(np.uint8), (len(cameras), 1, 1)),
        normals=normals,
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=cameras.azimuth_deg,
        elevation=cameras.elevation_deg,
        identity=identity / np.linalg.norm(identity),
        identity_views=np.full((len(cameras), 512), np.nan, np.float32),
    )


@pytest.fixture(scope="session")
def encode_params(tmp_path_factory: pytest.TempPathFactory) -> EncodeParams:
    """An untrained autoencoder of the embedded architecture: 16 px to 2 x 2."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("autoencoder")
    make_autoencoder(AutoencoderParams(channels=(8, 8, 8, 8), latent_channels=4)).save_pretrained(folder)
    return EncodeParams(autoencoder=str(folder), batch=4)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, encode_params: EncodeParams) -> Path:
    """A published dataset with latents; a third of the heads are held out."""
    root = tmp_path_factory.mktemp("dataset")
    heads = [head(seed) for seed in range(12)]
    latents = {}
    for each in heads:
        write_head(root / each.id, each)
        latents[each.id] = root / f"{each.id}-latents"
        job = StageJob(
            head=Head(id=each.id, seed=each.seed),
            sections=EncodeSections(views=GRID, encode=encode_params),
            inputs={"render": root / each.id, "normals": root / each.id},
            out=latents[each.id],
        )
        ENCODE.make(job)
    attributes = {"generator": {"name": "procedural", "options": {}}, "split": {"validation": 0.1, "test": 0.3}}
    info = assemble(root / "heads.zarr", [HeadEntry(id=each.id, folder=root / each.id) for each in heads], attributes)
    publish_latents(info.path, latents, encode_params)
    return info.path


@pytest.fixture(scope="session")
def train_params() -> Callable[..., TrainParams]:
    """Makes parameters of a training that takes seconds, with changes."""
    prompt = PromptTokens(words=(2, 3, 4, 5, 6), identity=5, start=0, end=1, padding=1, length=8)
    unet = UNetParams(
        sample_size=2,
        views=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        attention_levels=(True, False),
        multiview_factors=(1,),
        attention_heads=2,
        norm_groups=4,
        cross_attention_dim=512,
        ray_encoding="plucker",
    )
    defaults = TrainParams(
        unet=unet,
        text_encoder=TextEncoderParams(width=512, feed_forward=16, layers=1, heads=8, vocabulary=7, prompt=prompt),
        adapt=AdaptPhase(steps=0),
        single_view=SingleViewPhase(steps=0, groups=(GroupParams(conditioning=1, targets=3),)),
        multi_view=MultiViewPhase(
            steps=12,
            decay_steps=12,
            groups=tuple(GroupParams(conditioning=m, targets=n) for m, n in ((0, 4), (1, 3), (3, 1))),
        ),
        batch=2,
        learning_rate=1e-2,
        warm_up_steps=2,
        final_rate=0.1,
        random_background=0.0,
        checkpoint_every=5,
        record_every=3,
        threads=1,
    )
    return lambda **changes: defaults.model_copy(update=changes)


@pytest.fixture(scope="session")
def pipeline(
    dataset: Path,
    encode_params: EncodeParams,
    train_params: Callable[..., TrainParams],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A pipeline trained for twelve steps."""
    folder = tmp_path_factory.mktemp("trained")
    return run_training(dataset, train_params(), encode_params, folder, folder).pipeline
