"""Configuration of the training of the embedded weights. Imports no torch."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from spinmeround.models.identity.params import RecognitionConfig
from spinmeround.storage.records import FrozenParams
from spinmeround.tasks.stage import StageParams
from spinmeround.tasks.training.params import TrainParams

FIRST_SEED = 10_000_000
"""The embedded weights are trained and tested on heads from this seed on; datasets use lower seeds."""


class FaceViews(FrozenParams):
    """Views of a head that show at least part of its face, from which aligned crops are cut."""

    views: int = Field(12, ge=2, description="Crops per head")
    max_azimuth_deg: float = Field(75.0, gt=0.0, le=90.0)
    max_elevation_deg: float = Field(20.0, gt=0.0, le=90.0)
    resolutions: tuple[int, ...] = Field((64,), min_length=1, description="Sides of the images, used in turn")
    landmark_jitter: float = Field(
        0.004, ge=0.0, description="Standard deviation of the landmarks' error, in sides of the image"
    )


class OrbitViews(FrozenParams):
    """Views from all around a head."""

    views: int = Field(8, ge=1, description="Views per head")
    max_elevation_deg: float = Field(35.0, gt=0.0, le=90.0)
    resolution: int = Field(64, ge=8, description="Side of the images")
    shared: bool = Field(False, description="All heads are seen from the same cameras")


class HeadsParams(StageParams):
    """A dataset of heads straight from the generator, for training the multiview model."""

    views: OrbitViews = OrbitViews(views=16)
    heads: int = Field(4000, ge=1)
    first_seed: int = Field(
        FIRST_SEED + 100_000, ge=0, description="Generator's seed of the first head; none that recognition has seen"
    )
    validation_share: float = Field(0.01, ge=0.0, lt=1.0)
    test_share: float = Field(0.0, ge=0.0, lt=1.0)
    workers: int = Field(1, ge=1, description="Rendering processes; does not change the result")

    @property
    def seeds(self) -> range:
        """The generator's seeds of the heads."""
        return range(self.first_seed, self.first_seed + self.heads)

    def key_values(self) -> dict[str, Any]:
        """What decides the heads."""
        return self.model_dump(mode="json", exclude={"workers"})


class MultiviewParams(StageParams):
    """Training of the multiview model; `train` is that of the profile `embedded`."""

    heads: HeadsParams = HeadsParams()
    train: TrainParams = TrainParams()
    work: Path = Field(Path("runs/weights"), description="Folder of the heads, the store and the checkpoints")


class RecognitionParams(StageParams):
    """Training and measurement of the embedded recognition network."""

    network: RecognitionConfig = RecognitionConfig()
    views: FaceViews = FaceViews()
    identities: int = Field(2000, ge=2, description="Heads for training")
    first_seed: int = Field(FIRST_SEED + 3000, ge=0, description="Generator's seed of the first head")
    unseen_identities: int = Field(200, ge=2, description="Held-out heads, with the seeds after those for training")
    epochs: int = Field(24, ge=1)
    batch: int = Field(128, ge=2)
    learning_rate: float = Field(4e-3, gt=0.0, le=1.0)
    weight_decay: float = Field(5e-3, ge=0.0, le=1.0)
    margin: float = Field(
        0.35, ge=0.0, lt=1.57, description="Additive angular margin, in radians; rises over the first half"
    )
    scale: float = Field(24.0, gt=0.0, description="Scale of the cosines before the cross entropy")
    precision: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="Precision of the layers, by torch's autocast; weights are in float32"
    )
    seed: int = Field(0, ge=0, description="Seed of the weights, the order and the augmentation")
    threads: int = Field(1, ge=1)
    workers: int = Field(1, ge=1, description="Rendering processes; does not change the result")


class DetectorParams(StageParams):
    """Training and measurement of the embedded face detector."""

    views: OrbitViews = OrbitViews(views=12, max_elevation_deg=15.0)
    heads: int = Field(96, ge=2, description="Heads for training")
    first_seed: int = Field(FIRST_SEED, ge=0, description="Generator's seed of the first head")
    unseen_heads: int = Field(24, ge=1, description="Held-out heads, with the seeds after those for training")
    face_deg: float = Field(70.0, gt=0.0, le=90.0, description="Largest angle between camera and face of a face")
    no_face_deg: float = Field(100.0, gt=90.0, le=180.0, description="Least angle at which there is no face")
    pasted: float = Field(0.5, ge=0.0, le=1.0, description="Share of pictures that get a face pasted in anywhere")
    steps: int = Field(1000, ge=2)
    batch: int = Field(48, ge=2)
    learning_rate: float = Field(3e-3, gt=0.0)
    weight_decay: float = Field(1e-3, ge=0.0)
    seed: int = Field(0, ge=0, description="Seed of the weights, the batches and the augmentation")
    threads: int = Field(1, ge=1)
    workers: int = Field(1, ge=1, description="Rendering processes; does not change the result")


class InspectorParams(StageParams):
    """Training and measurement of the embedded inspector of previews."""

    channels: tuple[int, int, int] = Field((32, 64, 80), description="Channels at a half, a quarter and an eighth")
    heads: int = Field(1500, ge=2, description="Heads for training; every fourth is volume-rendered")
    first_seed: int = Field(FIRST_SEED, ge=0, description="Generator's seed of the first head")
    unseen_heads: int = Field(100, ge=2, description="Held-out heads, with the seeds after those for training")
    steps: int = Field(5000, ge=2)
    batch: int = Field(64, ge=2, description="Views in a batch; anomalies are painted onto half of them")
    learning_rate: float = Field(3e-3, gt=0.0)
    weight_decay: float = Field(0.02, ge=0.0)
    average: float = Field(0.995, ge=0.0, lt=1.0, description="Decay of the mean of the weights")
    measured_batches: int = Field(20, ge=1, description="Batches of held-out heads to measure with")
    report_every: int = Field(50, ge=1, description="Steps between reports")
    seed: int = Field(0, ge=0, description="Seed of the weights, the batches and the anomalies")
    threads: int = Field(1, ge=1)
    workers: int = Field(1, ge=1, description="Rendering processes; does not change the result")


class AutoencoderParams(StageParams):
    """Training and measurement of the embedded autoencoder."""

    channels: tuple[int, ...] = Field(
        (16, 64, 128), min_length=2, description="Channels of each level; each level but one halves the side"
    )
    latent_channels: int = Field(8, ge=1)
    layers_per_block: int = Field(1, ge=1)
    views: OrbitViews = OrbitViews(views=16)
    heads: int = Field(1000, ge=1, description="Heads for training")
    first_seed: int = Field(FIRST_SEED + 100_000, ge=0, description="Generator's seed of the first head")
    unseen_heads: int = Field(100, ge=1, description="Held-out heads, with the seeds after those for training")
    steps: int = Field(6000, ge=2)
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0.0, le=1.0)
    gradient_weight: float = Field(0.5, ge=0.0, description="Weight of the error of the finite differences")
    noise: float = Field(0.05, ge=0.0, description="Noise on latents, in standard deviations of each channel")
    start: str | None = Field(None, description="Folder of an autoencoder to start from; default: random weights")
    precision: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="Precision of the layers, by torch's autocast; weights are in float32"
    )
    report_every: int = Field(100, ge=1, description="Steps between reports")
    seed: int = Field(0, ge=0, description="Seed of the weights, the batches and the backgrounds")
    threads: int = Field(1, ge=1)
    workers: int = Field(1, ge=1, description="Rendering processes; does not change the result")
