"""The only loader of networks from outside: a folder as diffusers or transformers saves it, taken whole or refused.

`check_network` reads the configuration and the files' headers, compares all names and shapes with the network that the
configuration describes (built without memory, on torch's meta device), and reads the values. `load_network` does the
same, then lets the library load the files. Those in the original single-file layout (LDM) are converted. No weight is
ever left at a random number.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line, shortened
from spinmeround.storage.numbers import read_tensors
from spinmeround.storage.weights import NetworkFiles, Shape, check_files, check_values, network_files
from spinmeround.tasks.weights.single_file import converted, is_single_file, single_file
from spinmeround.tasks.weights.tensor_names import clip_name, compare, current_name

if TYPE_CHECKING:
    import torch

NetworkClass = Literal["AutoencoderKL", "AutoencoderDC", "UNet2DConditionModel", "MultiviewUNet", "CLIPTextModel"]
MOST_LAYERS = 1000
"""Of a level or an encoder: the network of a damaged configuration would take hours to build."""
_LAYERS = ("num_hidden_layers", "layers_per_block", "transformer_layers_per_block")
AUTOENCODERS: tuple[NetworkClass, ...] = ("AutoencoderKL", "AutoencoderDC")


@dataclass(frozen=True, kw_only=True)
class CheckedNetwork:
    """A folder whose files fit its configuration.

    `network` has no values (it is on the meta device), `config` all fields; `summary` counts tensors and parameters.
    `single_file` is set if the names are those of the original layout (LDM).
    """

    kind: NetworkClass
    network: Any
    files: NetworkFiles
    summary: str
    single_file: bool

    @property
    def config(self) -> Any:
        """The configuration of the network, with the library's defaults."""
        return self.network.config


def check_network(folder: Path, *kinds: NetworkClass, field: str = "", values: bool = True) -> CheckedNetwork:
    """The network of one of these classes in a folder; with `values`, every number is read and must be finite.

    Raises ConfigError, whose message begins with `field`, for a file that is missing, truncated or of another kind, a
    configuration that does not fit, and tensors that are missing, unexpected, of another shape or not finite.
    """
    try:
        checked = _compared(folder, kinds)
        if values:
            check_files(folder, checked.files.files)
    except SpinMeRoundError as error:
        raise ConfigError(f"{field}: {error}" if field else str(error)) from error
    return checked


def load_network(folder: Path, *kinds: NetworkClass, field: str = "", dtype: "torch.dtype | None" = None) -> Any:
    """The network in a folder, in float32 or `dtype`, on the CPU. Raises ConfigError as `check_network`."""
    import torch

    checked = check_network(folder, *kinds, field=field, values=False)
    prefix = f"{field}: {folder}" if field else str(folder)
    load = _converted if checked.single_file else _pretrained
    try:
        network, info = load(folder, checked, dtype or torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"{prefix}: expected a {checked.kind} that loads, found {one_line(error)}") from error
    if lost := {*info.get("missing_keys", ()), *map(str, info.get("mismatched_keys", ()))}:
        raise ConfigError(f"{prefix}: {len(lost)} tensors were not loaded, for example {min(lost)}")
    check_values(prefix, network.state_dict().items())
    return network


def _pretrained(folder: Path, checked: CheckedNetwork, dtype: "torch.dtype") -> tuple[Any, dict[str, Any]]:
    """The network as its library loads it, and what that says about names."""
    network, info = _class(checked.kind).from_pretrained(
        folder,
        dtype=dtype,
        variant=checked.files.variant,
        use_safetensors=checked.files.safetensors,
        local_files_only=True,
        output_loading_info=True,
    )
    return network, info


def _converted(folder: Path, checked: CheckedNetwork, dtype: "torch.dtype") -> tuple[Any, dict[str, Any]]:
    """The network with the tensors of a single file."""
    tensors = {name: tensor for file in checked.files.files for name, tensor in read_tensors(file)}
    network = _class(checked.kind).from_config(checked.config)
    network.load_state_dict(converted(folder, checked.kind, checked.config, tensors))  # strictly
    return network.to(dtype).eval(), {}


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a network. Raises SpinMeRoundError if it is missing or no JSON object."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise SpinMeRoundError(f"{folder}: expected a model's folder with config.json, found none") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SpinMeRoundError(f"{path}: expected a network's configuration, found {one_line(error)}") from error
    if not isinstance(found, dict):
        raise SpinMeRoundError(f"{path}: expected a network's configuration, found a {type(found).__name__}")
    return found


def _compared(folder: Path, kinds: tuple[NetworkClass, ...]) -> CheckedNetwork:
    config = read_config(folder)
    kind = kinds[0]
    if kind != "CLIPTextModel":  # transformers' configurations name no class reliably
        stated = config.get("_class_name")
        if stated not in kinds:
            raise SpinMeRoundError(f"{folder}: expected the config.json of {' or '.join(kinds)}, found {stated}")
        kind = stated
    renamed = clip_name if kind == "CLIPTextModel" else current_name
    network = _without_values(folder, kind, config)
    files = single_file(folder, kind) or network_files(folder, transformers=kind == "CLIPTextModel")
    found = files.shapes()
    if is_ldm := is_single_file(kind, found):
        found = _converted_shapes(folder, kind, network.config, found)
    wanted: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    try:
        summary = compare(folder, wanted, found, renamed)
    except SpinMeRoundError as error:
        layout = " (converted from the single-file layout (LDM) by this config.json)" if is_ldm else ""
        raise SpinMeRoundError(f"{error}{layout}") from error
    return CheckedNetwork(kind=kind, network=network, files=files, summary=summary, single_file=is_ldm)


def _converted_shapes(
    folder: Path, kind: NetworkClass, config: Mapping[str, Any], found: Mapping[str, Shape]
) -> dict[str, Shape]:
    """The names and shapes that the tensors of a single file have as those of a network of diffusers."""
    import torch

    empty = {name: torch.empty(shape, device="meta") for name, shape in found.items()}
    return {name: tuple(tensor.shape) for name, tensor in converted(folder, kind, config, empty).items()}


def _without_values(folder: Path, kind: NetworkClass, config: dict[str, Any]) -> Any:
    """The network that a configuration describes, without memory for its weights."""
    import torch
    from transformers import CLIPTextConfig

    for name in _LAYERS:
        if isinstance(value := config.get(name), int) and value > MOST_LAYERS:
            found = shortened(str(value), 40)
            raise SpinMeRoundError(f"{folder / 'config.json'}: {name}: expected at most {MOST_LAYERS}, found {found}")
    network_class = _class(kind)  # outside: a missing library is not a fault of the file
    try:
        with torch.device("meta"):
            if kind == "CLIPTextModel":
                return network_class(CLIPTextConfig(**config))
            return network_class.from_config(config)
    except Exception as error:  # whatever the libraries raise, the file does not fit
        raise SpinMeRoundError(
            f"{folder / 'config.json'}: expected the configuration of a {kind}, found one that does not fit: "
            f"{one_line(error)}"
        ) from error


def _class(kind: NetworkClass) -> Any:
    if kind == "CLIPTextModel":
        from transformers import CLIPTextModel

        return CLIPTextModel
    if kind == "MultiviewUNet":
        from spinmeround.models.diffusion.unet import MultiviewUNet

        return MultiviewUNet
    import diffusers

    return getattr(diffusers, kind)
