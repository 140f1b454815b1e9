"""Finds the networks in a folder that a training can begin with. Imports no networks.

<folder>/config.json                            a MultiviewUNet or a diffusers UNet2DConditionModel
<folder>/unet, <folder>/text_encoder            a pipeline, or the result of `adapt`
<folder>/arc2face, <folder>/encoder             Arc2Face as published
<folder>/pipeline, <folder>/networks            the artifact of a training, with one of these two
<folder>/step-000000500                         checkpoints, of which the newest is taken; or such a folder itself
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinmeround.storage.checkpoints import Checkpoint, find_checkpoint
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.training.params import UNET, InitialParams

_PARTS = (("unet", "text_encoder"), ("arc2face", "encoder"))
"""Folders of a UNet, and of the text encoder beside it, if there is one."""
_RESULTS = ("pipeline", "networks")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Networks to begin with: either the folder of a UNet, and of the text encoder beside it, or a checkpoint."""

    folder: Path
    unet: Path | None = None
    text_encoder: Path | None = None
    checkpoint: Checkpoint | None = None

    def fingerprint(self, *, text_encoder: bool) -> str:
        """Fingerprint of the weights; of the text encoder's only if it is used."""
        if self.checkpoint is not None:
            return self.checkpoint.fingerprint()
        used = {"unet": self.unet, "text_encoder": self.text_encoder if text_encoder else None}
        return sha256_json({name: fingerprint(path) for name, path in used.items() if path is not None})


def initial_source(initial: InitialParams) -> Source | None:
    """The networks that `train.initial.unet` names, None for random ones. Raises ConfigError if there are none."""
    folder = initial.folders.get("unet")
    return None if folder is None else find_source(folder)


def find_source(folder: Path) -> Source:
    """The networks in a folder. Raises ConfigError if there are none."""
    if (folder / "config.json").is_file():
        return Source(folder=folder, unet=folder)
    for unet, text_encoder in _PARTS:
        if (folder / unet / "config.json").is_file():
            beside = folder / text_encoder
            has_encoder = (beside / "config.json").is_file()
            return Source(folder=folder, unet=folder / unet, text_encoder=beside if has_encoder else None)
    for result in _RESULTS:
        if (folder / result).is_dir():
            return find_source(folder / result)
    if (found := find_checkpoint(folder)) is not None:
        return Source(folder=folder, checkpoint=found)
    raise ConfigError(
        f"{UNET}: expected a model's folder with config.json, a pipeline or a checkpoint at {folder}, found none; "
        "`spinmeround weights check` says where to get published weights, 'random' starts without any"
    )


def check_stated(source: Source, prompt: dict[str, Any], normals_frame: str | None) -> None:
    """Check the prompt, and the frame of the normals unless `normals_frame` is None, that a pipeline or a checkpoint
    states; other folders state neither. Raises ConfigError."""
    stated = _stated(source)
    if (found := stated.get("prompt", prompt)) != prompt:
        raise ConfigError(f"{UNET}: {source.folder}: expected the prompt {prompt}, by train.text_encoder, got {found}")
    frame = stated.get("normals_frame", normals_frame)
    if normals_frame is not None and frame != normals_frame:
        raise ConfigError(
            f"{UNET}: {source.folder}: expected normals in the frame {normals_frame!r}, by encode.normals_frame, found "
            f"{frame!r}; set encode.normals_frame={frame}"
        )


def _stated(source: Source) -> dict[str, Any]:
    if source.checkpoint is not None:
        model = source.checkpoint.state().get("model", {})
        frame = {} if model.get("phase") == "adapt" else {"normals_frame": model.get("normals_frame")}
        return {"prompt": model["text_encoder"]["prompt"], **frame} if model else {}
    index = source.folder / "model_index.json"
    found = read_json_object(index, "the parts of a pipeline") if index.is_file() else {}
    return {"normals_frame": "world", **found} if found.get("_class_name") == "SpinMeRoundPipeline" else {}
