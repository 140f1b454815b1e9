"""Configuration and result of a training, apart from the networks, so that what is cached is found in no time."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from spinmeround.models.diffusion.edm import NoiseDistribution
from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.storage.artifacts.store import artifact_key
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.weights.shipped import fingerprint
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint
from spinmeround.tasks.stage import StageParams

VERSION = 1


class Grouping(StageParams):
    """Steps of one stage of the training, and how the views of its groups are used.

    At each step one pair of `conditioning` and `targets` is drawn, all pairs equally likely.
    """

    steps: int = Field(ge=0, description="Steps of this stage; 0 leaves it out")
    conditioning: tuple[int, ...] = Field(min_length=1, description="Numbers of conditioning views")
    targets: tuple[int, ...] = Field(min_length=1, description="Number of target views to each of them")
    batches: tuple[int, ...] = Field((), description="Groups a step of each pair; none: `train.batch` of all")
    facing_deg: tuple[float, ...] = Field(
        (), description="Largest azimuth, to either side, of each pair's first view; none: 90, part of the face is seen"
    )
    nearest: tuple[int, ...] = Field(
        (),
        description="From how many views, those nearest to a random one, each pair's views but the first are drawn; "
        "0 or none: from all",
    )

    @model_validator(mode="after")
    def _paired(self) -> "Grouping":
        if len(self.conditioning) != len(self.targets) or min(self.conditioning) < 0 or min(self.targets) < 1:
            raise ValueError(
                "conditioning, targets: expected equally long lists, numbers from 0 and from 1, got "
                f"{list(self.conditioning)} and {list(self.targets)}"
            )
        pairs = len(self.targets)
        if self.batches and (len(self.batches) != pairs or min(self.batches) < 1):
            raise ValueError(f"batches: expected none or {pairs} numbers from 1, one a pair, got {list(self.batches)}")
        if self.facing_deg and (len(self.facing_deg) != pairs or not all(0 <= each <= 90 for each in self.facing_deg)):
            raise ValueError(
                f"facing_deg: expected none or {pairs} azimuths from 0 to 90, one a pair, got {list(self.facing_deg)}"
            )
        sizes = [m + n for m, n in zip(self.conditioning, self.targets, strict=True)]
        fits = len(self.nearest) == pairs and all(
            near == 0 or near >= size > 1 for near, size in zip(self.nearest, sizes, strict=True)
        )
        if self.nearest and not fits:
            raise ValueError(
                f"nearest: expected none or {pairs} numbers, one a pair, each no less than the pair's views {sizes} "
                f"or 0, as it is for a single view, got {list(self.nearest)}"
            )
        return self

    def views_a_step(self, batch: int) -> float:
        """Mean number of views, where pairs without their own number of groups have `batch` of them."""
        batches = self.batches or (batch,) * len(self.targets)
        steps = zip(self.conditioning, self.targets, batches, strict=True)
        return sum((m + n) * groups for m, n, groups in steps) / len(batches)

    @property
    def largest(self) -> int:
        return max(m + n for m, n in zip(self.conditioning, self.targets, strict=True))


class TextEncoderParams(StageParams):
    """Sizes of the CLIP text encoder. The defaults are Arc2Face's; `layers` and the prompt make it small."""

    width: int = Field(768, ge=512, description="Width of its states: `unet.cross_attention_dim`")
    feed_forward: int = Field(3072, ge=1)
    layers: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    vocabulary: int = Field(49408, ge=7)
    prompt: PromptTokens = PromptTokens()


class InitialParams(StageParams):
    """What a training begins with. The weights' fingerprints enter its key, not where they lie."""

    unet: str = Field(
        "random", description="'random', or the folder of a diffusers UNet2DConditionModel: Arc2Face's or SD 1.5's"
    )
    text_encoder: str = Field(
        "random", description="'random', or the folder of a transformers CLIPTextModel: Arc2Face's encoder"
    )

    @property
    def folders(self) -> dict[str, Path]:
        """The folders that are named, by field."""
        named = {"unet": self.unet, "text_encoder": self.text_encoder}
        return {field: Path(folder).expanduser() for field, folder in named.items() if folder != "random"}


class TrainParams(StageParams):
    """The model's sizes and how it is trained. The defaults are the paper's."""

    unet: UNetParams = UNetParams()
    text_encoder: TextEncoderParams = TextEncoderParams()
    initial: InitialParams = InitialParams()
    adapt: Grouping = Grouping(steps=31_000, conditioning=(0,), targets=(1,))
    single_view: Grouping = Grouping(steps=600_000, conditioning=(1,), targets=(7,))
    multi_view: Grouping = Grouping(steps=1_000_000, conditioning=(0, 1, 3), targets=(8, 7, 5))
    batch: int = Field(32, ge=1, description="Groups of views a step")
    learning_rate: float = Field(1e-5, gt=0.0)
    warm_up_steps: int = Field(1000, ge=1, description="Steps over which the learning rate rises")
    final_rate: float = Field(1.0, gt=0.0, le=1.0, description="Learning rate at the end, as a share of the highest")
    weight_decay: float = Field(1e-2, ge=0.0)
    gradient_limit: float = Field(1.0, gt=0.0, description="Largest norm of all gradients")
    ema_decay: float = Field(0.9999, ge=0.0, lt=1.0, description="Of the averaged weights; less in the first steps")
    condition_dropout: float = Field(0.15, ge=0.0, lt=1.0, description="Share of samples without any condition")
    identity_dropout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of samples that lose their identity alone; where no view is given, that is all they had",
    )
    random_background: float = Field(
        0.5, ge=0.0, le=1.0, description="Share of samples on a random colour; they are encoded anew at each step"
    )
    noise: NoiseDistribution = NoiseDistribution()
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the networks' layers; bfloat16 by torch's autocast, weights and state stay float32"
    )
    seed: int = Field(0, ge=0)
    checkpoint_every: int = Field(1000, ge=1, description="Steps")
    record_every: int = Field(100, ge=1, description="Steps whose mean loss is one record of the history")
    gradient_checkpointing: bool = Field(
        False, description="Keep no activations, compute them again: a third slower, and the full model's group fits"
    )
    state_on_disk: bool = Field(
        False,
        description="Moments and average in a mapped file beside the checkpoints: slower, for less memory; on a CPU",
    )
    memory_mb: int = Field(4096, ge=0, description="Latents up to this size are held in memory")
    threads: int = Field(0, ge=0, description="Of torch; 0 leaves its own choice")

    @model_validator(mode="after")
    def _some_keep_their_identity(self) -> "TrainParams":
        if self.condition_dropout + self.identity_dropout >= 1:
            raise ValueError(
                "condition_dropout, identity_dropout: expected shares whose sum is below 1, got "
                f"{self.condition_dropout:g} and {self.identity_dropout:g}"
            )
        return self

    @property
    def groupings(self) -> tuple[Grouping, Grouping, Grouping]:
        return self.adapt, self.single_view, self.multi_view

    @property
    def steps(self) -> int:
        return sum(grouping.steps for grouping in self.groupings)

    def grouping_at(self, step: int) -> Grouping:
        """The stage of the training that this step belongs to."""
        for grouping in self.groupings:
            if step < grouping.steps:
                return grouping
            step -= grouping.steps
        raise ValueError(f"step: expected less than {self.steps}")


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What came of a training; `history` holds {"step", "loss"} records in order."""

    steps: int
    loss_first: float
    loss_last: float
    history: list[dict[str, Any]]
    pipeline: Path


def training_content(params: TrainParams) -> dict[str, Any]:
    """The parameters that decide what a training makes."""
    how = {"checkpoint_every", "gradient_checkpointing", "state_on_disk", "memory_mb", "threads"}
    return params.model_dump(mode="json", exclude={*how, "initial"})


def training_weights(params: TrainParams, encode: EncodeParams) -> str:
    """What stands for the weights that a training begins with, and for the autoencoder that it works in.

    Raises ConfigError where a folder of `initial` is not there.
    """
    autoencoder = autoencoder_fingerprint(encode)
    begun = {}
    for field, folder in params.initial.folders.items():
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"train.initial.{field}: expected a model's folder with config.json at {folder}, found none; "
                "`spinmeround weights check` says where to get it, 'random' begins without it"
            )
        begun[field] = fingerprint(folder)
    return sha256_json({"autoencoder": autoencoder, **begun}) if begun else autoencoder


def training_key(digest: str, params: TrainParams, encode: EncodeParams) -> str:
    """Content address of a training on a dataset of this digest."""
    content = training_content(params)
    return artifact_key("train", VERSION, content, {"dataset": digest}, training_weights(params, encode))


def load_training(folder: Path) -> TrainingResult:
    """The result of a training, from its artifact's folder."""
    summary = json.loads((folder / "training.json").read_text())
    history = json.loads((folder / "history.json").read_text())["runs"][0]["history"]
    return TrainingResult(**summary, history=history, pipeline=folder / "pipeline")
