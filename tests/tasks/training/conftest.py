"""A rendered head of 8 views as a dataset, and a network of the demo's sizes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.geometry.cameras import ViewGrid, pixel_rays
from spinmeround.models.geometry.normals import encode_normals
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.panohead_bridge.procedural import make
from spinmeround.storage.dataset import HeadArrays, HeadEntry, assemble, write_head
from spinmeround.tasks.heads.encode import ENCODE, EncodeParams, EncodeSections, publish_latents
from spinmeround.tasks.stage import Head, StageJob
from spinmeround.tasks.training.params import TextEncoderParams, TrainParams
from spinmeround.tasks.training.params.phases import AdaptPhase, MultiViewPhase, SingleViewPhase

AROUND = ViewGrid(azimuths=8, elevations_deg=(0.0,))


def rendered_head(seed: int, side: int = 64) -> HeadArrays:
    """A head of the procedural generator with its true normals, and a random embedding."""
    generator, cameras = make(), AROUND.cameras()
    identity = generator.sample(seed)
    drawn = generator.render(identity, cameras, side)
    origins, directions = pixel_rays(cameras, side)
    along = drawn.depth / (directions * cameras.cam2world[:, None, None, :3, 2]).sum(-1)
    hit = np.isfinite(along)
    normals = np.zeros_like(directions)
    normals[hit] = generator.surface_normal(identity, (origins + directions * along[..., None])[hit])
    mask = np.where(hit, drawn.mask, 0).astype(np.uint8)
    embedding = np.random.default_rng(seed).normal(size=512).astype(np.float32)
    return HeadArrays(
        id=f"procedural-{seed:06d}",
        seed=seed,
        rgb=drawn.rgb,
        mask=mask,
        normals=encode_normals(normals, mask),
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=cameras.azimuth_deg,
        elevation=cameras.elevation_deg,
        identity=embedding / np.linalg.norm(embedding),
        identity_views=np.full((len(cameras), 512), np.nan, np.float32),
    )


def write_dataset(head: HeadArrays, encode: EncodeParams, root: Path) -> Path:
    """A dataset of one head, to train on, with its latents."""
    write_head(root / head.id, head)
    job = StageJob(
        head=Head(id=head.id, seed=head.seed),
        sections=EncodeSections(views=AROUND, encode=encode),
        inputs={"render": root / head.id, "normals": root / head.id},
        out=root / "latents",
    )
    ENCODE.make(job)
    attributes = {"generator": {"name": "procedural", "options": {}}, "split": {"validation": 0.0, "test": 0.0}}
    info = assemble(root / "heads.zarr", [HeadEntry(id=head.id, folder=root / head.id)], attributes)
    publish_latents(info.path, {head.id: job.out}, encode)
    return info.path


@pytest.fixture(scope="session")
def one_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of a head at 32 px, with the latents of the embedded autoencoder, 8 x 8."""
    return write_dataset(rendered_head(3, side=32), EncodeParams(), tmp_path_factory.mktemp("one-head"))


@pytest.fixture(scope="session")
def head_params() -> Callable[..., TrainParams]:
    """Makes parameters of a training on that head, with a UNet of two levels and changes."""
    prompt = PromptTokens(words=(2, 3, 4, 5, 6), identity=5, start=0, end=1, padding=1, length=8)
    unet = UNetParams(
        sample_size=8,
        latent_channels=8,
        views=8,
        block_out_channels=(64, 128),
        layers_per_block=1,
        attention_levels=(True, True),
        multiview_factors=(1, 2),
        attention_heads=4,
        norm_groups=8,
        cross_attention_dim=512,
    )
    defaults = TrainParams(
        unet=unet,
        text_encoder=TextEncoderParams(width=512, feed_forward=16, layers=1, heads=8, vocabulary=7, prompt=prompt),
        adapt=AdaptPhase(steps=0),
        single_view=SingleViewPhase(steps=0),
        multi_view=MultiViewPhase(steps=10),
        batch=8,
        learning_rate=1e-3,
        warm_up_steps=20,
        random_background=0.0,
        record_every=50,
        threads=1,
    )
    return lambda **changes: defaults.model_copy(update=changes)
