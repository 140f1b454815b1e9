"""Configuration, key and result of a training. Imports no networks, so a cached result is found without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from spinmeround.models.diffusion.params import NoiseDistribution, UNetParams
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.storage.artifacts import artifact_key
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint
from spinmeround.tasks.stage import StageParams
from spinmeround.tasks.training.optimisation.params import AverageParams
from spinmeround.tasks.training.parallel.params import LaunchParams

VERSION = 4

METRICS = "metrics.jsonl"
"""File with the metrics of a training, beside its checkpoints and in its result."""

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""As described in `tasks.training.precision`."""


class GroupParams(StageParams):
    """One kind of view group that a phase trains on: `[[train.<phase>.groups]]` in a profile."""

    conditioning: int = Field(ge=0, description="Conditioning views of a group")
    targets: int = Field(ge=1, description="Target views of a group")
    weight: float = Field(1.0, gt=0.0, description="Relative frequency of this kind among the groups of the phase")
    batch: int = Field(0, ge=0, description="Groups per step; 0: `train.batch`")
    facing_deg: float = Field(
        90.0, ge=0.0, le=90.0, description="Largest |azimuth| of the first view; at 90 it shows part of the face"
    )
    nearest: int = Field(
        0,
        ge=0,
        description="Draw all views but the first from this many neighbours of a random view; 0: from all views",
    )

    @model_validator(mode="after")
    def _neighbourhood_holds_the_group(self) -> "GroupParams":
        if self.nearest and (self.views == 1 or self.nearest < self.views):
            expected = "0 for a single view" if self.views == 1 else f"0, or at least the group's {self.views} views"
            raise ValueError(f"nearest: expected {expected}, got {self.nearest}")
        return self

    @property
    def views(self) -> int:
        """Conditioning and target views together."""
        return self.conditioning + self.targets


class TrainingPhase(StageParams):
    """One phase of the training. Each step draws one kind of group, by weight."""

    steps: int = Field(ge=0, description="Steps of this phase; 0 omits it")
    groups: tuple[GroupParams, ...] = Field(description="Kinds of groups; at least one")

    @model_validator(mode="after")
    def _has_groups(self) -> "TrainingPhase":
        if not self.groups:
            raise ValueError("groups: expected at least one kind of group, got none; steps = 0 omits a phase")
        return self

    def views_per_step(self, batch: int) -> float:
        """Expected number of views per step; `batch` is the number of groups of kinds that set none."""
        views = sum(group.weight * group.views * (group.batch or batch) for group in self.groups)
        return views / sum(group.weight for group in self.groups)

    @property
    def largest(self) -> int:
        """Views of the largest group."""
        return max(group.views for group in self.groups)


class AdaptPhase(TrainingPhase):
    """Single views, conditioned on the identity alone."""

    steps: int = Field(31_000, ge=0, description="Steps of this phase; 0 omits it")
    groups: tuple[GroupParams, ...] = (GroupParams(conditioning=0, targets=1),)


class SingleViewPhase(TrainingPhase):
    """Groups with one conditioning view."""

    steps: int = Field(600_000, ge=0, description="Steps of this phase; 0 omits it")
    groups: tuple[GroupParams, ...] = (GroupParams(conditioning=1, targets=7),)


class MultiViewPhase(TrainingPhase):
    """Groups with 0, 1 or 3 conditioning views."""

    steps: int = Field(1_000_000, ge=0, description="Steps of this phase; 0 omits it")
    groups: tuple[GroupParams, ...] = tuple(GroupParams(conditioning=m, targets=n) for m, n in ((0, 8), (1, 7), (3, 5)))


class TextEncoderParams(StageParams):
    """Sizes of the CLIP text encoder. The defaults are Arc2Face's; `layers` and the prompt make it small."""

    trained: bool = Field(False, description="Train it with the UNet; the paper leaves Arc2Face's as it is")
    width: int = Field(768, ge=512, description="Width of its states: `unet.cross_attention_dim`")
    feed_forward: int = Field(3072, ge=1)
    layers: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    vocabulary: int = Field(49408, ge=7)
    prompt: PromptTokens = PromptTokens()


class InitialParams(StageParams):
    """Initial weights of a training. Their fingerprints enter its key, their location does not."""

    unet: str = Field(
        "random", description="'random', or the folder of a diffusers UNet2DConditionModel: Arc2Face or SD 1.5"
    )
    text_encoder: str = Field(
        "random", description="'random', or the folder of a transformers CLIPTextModel: Arc2Face's encoder"
    )

    @property
    def folders(self) -> dict[str, Path]:
        """The folders to load, by field."""
        named = {"unet": self.unet, "text_encoder": self.text_encoder}
        return {field: Path(folder).expanduser() for field, folder in named.items() if folder != "random"}


class GuardParams(StageParams):
    """When a training goes wrong. It then returns to the last checkpoint once, and stops the second time."""

    most_skipped: int = Field(
        5, ge=1, description="Steps in a row whose loss or gradient is not finite; such steps are not taken"
    )
    spike: float = Field(
        5.0, ge=0.0, description="Mean loss over a window, as a multiple of the median of earlier losses; 0: any"
    )
    window: int = Field(20, ge=1, description="Steps of that window")


class ValidationParams(StageParams):
    """The loss on held-out heads, measured while the training runs; it changes no weights."""

    every: int = Field(0, ge=0, description="Steps between validations; 0: none")
    heads: int = Field(8, ge=1, description="Held-out heads, one group of each kind from each")
    sigmas: tuple[float, ...] = Field((0.2, 1.0, 5.0, 25.0), min_length=1, description="Noise levels")


class TrainParams(StageParams):
    """Sizes of the model and how it is trained. The defaults are the paper's."""

    unet: UNetParams = UNetParams()
    text_encoder: TextEncoderParams = TextEncoderParams()
    initial: InitialParams = InitialParams()
    adapt: AdaptPhase = AdaptPhase()
    single_view: SingleViewPhase = SingleViewPhase()
    multi_view: MultiViewPhase = MultiViewPhase()
    batch: int = Field(32, ge=1, description="Groups of views per step")
    learning_rate: float = Field(1e-5, gt=0.0, le=1.0, description="Peak of the learning rate")
    warm_up_steps: int = Field(1000, ge=1, description="Steps over which the learning rate rises")
    final_rate: float = Field(1.0, gt=0.0, le=1.0, description="Final learning rate as a share of the peak")
    weight_decay: float = Field(1e-2, ge=0.0, le=1.0, description="Weight decay of AdamW")
    gradient_limit: float = Field(1.0, gt=0.0, description="Gradients are clipped to this norm")
    optimiser: Literal["adamw", "adamw_8bit"] = Field(
        "adamw", description="AdamW; adamw_8bit needs bitsandbytes and keeps its moments in 8 bits"
    )
    new_layers_rate: float = Field(
        1.0, gt=0.0, description="Learning rate of the layers that the initial UNet lacks, as a multiple of the others'"
    )
    average: AverageParams = AverageParams()
    identity: Literal["view", "mean"] = Field(
        "view",
        description="Embedding of the first conditioning view, or of the head; without given views always the latter",
    )
    condition_dropout: float = Field(
        0.15, ge=0.0, lt=1.0, description="Share of samples that lose identity and conditioning views"
    )
    identity_dropout: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Share of samples that lose only the identity; without conditioning views, no condition remains",
    )
    random_background: float = Field(
        0.5, ge=0.0, le=1.0, description="Share of samples on a random colour; they are encoded again at each step"
    )
    noise: NoiseDistribution = NoiseDistribution()
    precision: Precision = Field(
        "float32", description="Precision of the layers; weights and moments are always in float32"
    )
    guard: GuardParams = GuardParams()
    validation: ValidationParams = ValidationParams()
    seed: int = Field(0, ge=0)
    micro_batch: int = Field(
        0, ge=0, description="Groups per forward pass, whose gradients are added up; 0: all groups of a step"
    )
    launch: LaunchParams = LaunchParams()
    sharding: Literal["none", "fsdp2"] = Field(
        "none", description="Of several processes, each holds everything (DDP), or a part of the weights (FSDP2)"
    )
    compile: bool = Field(False, description="Compile the repeated blocks of the UNet (torch.compile)")
    channels_last: bool = Field(False, description="Keep the weights of convolutions with the channels last")
    checkpoint_every: int = Field(1000, ge=1, description="Steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints that are kept")
    keep_best: int = Field(1, ge=0, description="Checkpoints of the lowest validation losses that are kept beside them")
    record_every: int = Field(100, ge=1, description="Steps averaged into one record of the history and the metrics")
    tensorboard: bool = Field(False, description="Write TensorBoard's event files beside the checkpoints")
    wandb: str = Field("", description="Project in Weights & Biases to record the training in; empty: none")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, a third slower"
    )
    state_on_disk: bool = Field(
        False,
        description="Keep moments and average in a mapped file next to the checkpoints: less memory, slower; CPU only",
    )
    memory_mb: int = Field(
        4096, ge=0, description="Keep the latents in memory if they fit into this many MiB; otherwise map their files"
    )
    prefetch: int = Field(2, ge=0, description="Batches that are read and encoded ahead of their step")
    workers: int = Field(0, ge=0, description="Processes that read the files of batches; 0: a thread does")
    threads: int = Field(0, ge=0, description="Threads of torch; 0: torch's default")

    @model_validator(mode="after")
    def _some_samples_keep_their_identity(self) -> "TrainParams":
        if self.condition_dropout + self.identity_dropout >= 1:
            raise ValueError(
                "condition_dropout, identity_dropout: expected shares whose sum is below 1, got "
                f"{self.condition_dropout:g} and {self.identity_dropout:g}"
            )
        return self

    @property
    def phases(self) -> tuple[TrainingPhase, TrainingPhase, TrainingPhase]:
        """The phases in order."""
        return self.adapt, self.single_view, self.multi_view

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> TrainingPhase:
        """The phase that this step, counted from 0, belongs to. Raises ValueError past the last step."""
        remaining = step
        for phase in self.phases:
            if remaining < phase.steps:
                return phase
            remaining -= phase.steps
        raise ValueError(f"step: expected less than {self.steps}, got {step}")


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Result of a training; `history` holds {"step", "loss"} records in order, `skipped` the reason of each step that
    was not taken."""

    steps: int
    loss_first: float
    loss_last: float
    history: list[dict[str, Any]]
    pipeline: Path
    skipped: dict[str, str] = field(default_factory=dict)


def training_content(params: TrainParams, encode: EncodeParams) -> dict[str, Any]:
    """The parameters that determine the trained weights."""
    execution = {
        *(
            "checkpoint_every",
            "keep_checkpoints",
            "keep_best",
            "record_every",
            "tensorboard",
            "validation",
            "micro_batch",
        ),
        *("gradient_checkpointing", "state_on_disk", "memory_mb", "threads"),
        *("launch", "sharding", "compile", "channels_last", "prefetch", "workers"),
    }
    content = params.model_dump(mode="json", exclude={*execution, "initial"})
    return {**content, "normals_frame": encode.normals_frame}


def training_weights(params: TrainParams, encode: EncodeParams) -> str:
    """Fingerprint of the autoencoder and of the initial weights.

    Raises ConfigError if a folder of `initial` is missing.
    """
    autoencoder = autoencoder_fingerprint(encode)
    initial = {}
    for name, folder in params.initial.folders.items():
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"train.initial.{name}: expected a model's folder with config.json at {folder}, found none; "
                "`spinmeround weights check` says where to get it, 'random' starts without it"
            )
        initial[name] = fingerprint(folder)
    return sha256_json({"autoencoder": autoencoder, **initial}) if initial else autoencoder


def training_inputs(dataset: HeadDataset) -> dict[str, str]:
    """What a training reads: the digests of the dataset and of its latents. Raises DatasetError without latents."""
    return {"dataset": dataset.digest, "latents": dataset.latents_digest}


def training_key(inputs: Mapping[str, str], params: TrainParams, encode: EncodeParams) -> str:
    """Content address of a training on these `training_inputs`."""
    return artifact_key("train", VERSION, training_content(params, encode), inputs, training_weights(params, encode))


def load_training(folder: Path) -> TrainingResult:
    """Reads the result of a training from its artifact's folder."""
    summary = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))["runs"][0]["history"]
    return TrainingResult(**summary, history=history, pipeline=folder / "pipeline")
