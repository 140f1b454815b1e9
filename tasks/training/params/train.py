"""Configuration of a training."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from spinmeround.models.diffusion.params import ConditionedOn, NoiseDistribution, UNetParams
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.stage import StageParams
from spinmeround.tasks.training.params.averages import AverageParams
from spinmeround.tasks.training.params.launch import LaunchParams
from spinmeround.tasks.training.params.phases import (
    PHASES,
    AdaptPhase,
    MultiViewPhase,
    PhaseName,
    SingleViewPhase,
    TrainingPhase,
    field_of,
)

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
"""As described in `tasks.training.model.precision`."""

UNET, ENCODER = "train.initial.unet", "train.initial.text_encoder"
"""Names of the fields in messages."""


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
        "random",
        description="'random', 'embedded' (the model that ships), or a folder: a pipeline, a MultiviewUNet, a "
        "diffusers UNet2DConditionModel (Arc2Face, SD 1.5), a checkpoint or the result of another training",
    )
    text_encoder: str = Field(
        "random",
        description="'random', or the folder of a transformers CLIPTextModel: Arc2Face's encoder. A pipeline brings "
        "its own",
    )
    zero_pose: bool = Field(
        False,
        description="Begin with zero in place of random weights of the rays and the mask, in a UNet that has none",
    )

    @property
    def folders(self) -> dict[str, Path]:
        """The folders to load, by field."""
        return self.outside | ({"unet": embedded_weights("multiview")} if self.unet == "embedded" else {})

    @property
    def outside(self) -> dict[str, Path]:
        """Those of the folders that are no part of the package."""
        named = {"unet": self.unet, "text_encoder": self.text_encoder}
        return {
            name: Path(folder).expanduser() for name, folder in named.items() if folder not in ("random", "embedded")
        }


class GuardParams(StageParams):
    """When a training goes wrong. It then returns to the last checkpoint once, and stops the second time."""

    most_skipped: int = Field(
        5, ge=1, description="Steps in a row whose loss or gradient is not finite; such steps are not taken"
    )
    spike: float = Field(
        5.0, ge=0.0, description="Mean loss over a window, as a multiple of the median over earlier windows; 0: any"
    )
    window: int = Field(20, ge=1, description="Steps of that window")


class ValidationParams(StageParams):
    """The loss on held-out heads, measured while the training runs; it changes no weights."""

    every: int = Field(0, ge=0, description="Steps between validations, beside those of checkpoints; 0: none")
    heads: int = Field(8, ge=1, description="Held-out heads, one group of each kind from each")
    sigmas: tuple[float, ...] = Field((0.2, 1.0, 5.0, 25.0), min_length=1, description="Noise levels")


class SamplesParams(StageParams):
    """Pictures of fixed heads that the averaged network generates while the training runs; they change no weights."""

    every: int = Field(0, ge=0, description="Steps between contact sheets; 0: none. The phase adapt makes none")
    heads: int = Field(4, ge=1, description="First heads of the split `validation`, or of `train` if that is empty")
    steps: int = Field(20, ge=1, description="Sampling steps")
    guidance_scale: float | None = Field(None, ge=0.0, description="Default: 3, as `spinmeround generate` has it")
    seed: int = Field(0, ge=0, description="Seed of the noise of the first head; the next heads have the next seeds")


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
    final_rate: float = Field(
        1.0, gt=0.0, le=1.0, description="Final learning rate as a share of the peak, after a phase's `decay_steps`"
    )
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
    conditioned_on: ConditionedOn = Field(
        "both",
        description="Given images and identity, or one of them alone: the other is dropped from every sample, and the "
        "pipeline ignores it. The cameras of given views stay. adapt has the identity in any case",
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
    samples: SamplesParams = SamplesParams()
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
    keep_state: bool = Field(
        True, description="Keep the last checkpoint with the result, so that more steps continue the training"
    )
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

    @model_validator(mode="after")
    def _learning_rate_falls_over_some_steps(self) -> "TrainParams":
        if self.final_rate < 1 and not any(phase.decay_steps for phase in self.phases):
            raise ValueError(
                "final_rate: expected decay_steps in a phase, over which the learning rate falls to "
                f"{self.final_rate:g} of its peak, got none"
            )
        return self

    @property
    def phases(self) -> tuple[TrainingPhase, TrainingPhase, TrainingPhase]:
        """The phases in order."""
        return self.adapt, self.single_view, self.multi_view

    @property
    def trained(self) -> list[PhaseName]:
        """The phases with at least one step, in order."""
        return [name for name, phase in zip(PHASES, self.phases, strict=True) if phase.steps]

    def only(self, *names: PhaseName) -> "TrainParams":
        """The same parameters without the steps of all other phases."""
        omitted = {
            field_of(name): phase.model_copy(update={"steps": 0})
            for name, phase in zip(PHASES, self.phases, strict=True)
            if name not in names
        }
        return self.model_copy(update=omitted)

    @property
    def name(self) -> PhaseName:
        """The phase that a training with these parameters takes. Raises ValueError if they have several or none."""
        if len(self.trained) != 1:
            found = ", ".join(self.trained) or "none"
            raise ValueError(f"train: expected steps in one phase, each is a training of its own, got {found}")
        return self.trained[0]

    @property
    def phase(self) -> TrainingPhase:
        """The phase `name`."""
        phase: TrainingPhase = getattr(self, field_of(self.name))
        return phase

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def draws_seed(self) -> int:
        """Seed of the random numbers of the steps; it differs between phases, so that their draws are unrelated."""
        return self.seed * len(PHASES) + PHASES.index(self.name)
