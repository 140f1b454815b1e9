"""The only loader of networks from outside: a folder as diffusers or transformers saves it, taken whole or refused.

`check_network` reads the configuration and the files' headers, compares all names, shapes and dtypes with the network
that the configuration describes (built without memory, on torch's meta device), and reads the values. `load_network`
does the same and fills the network from the files that were compared; the libraries' own loaders choose among files by
other rules. Tensors in the original single-file layout (LDM) are converted. No weight is ever left at a random number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line, printable, shortened
from spinmeround.storage.numbers import read_tensors
from spinmeround.storage.weights import NetworkFiles, TensorHeader, check_files, check_values, network_files
from spinmeround.tasks.weights.single_file import converted, is_single_file, single_file
from spinmeround.tasks.weights.tensor_names import clip_name, compare, current_name, ignored

if TYPE_CHECKING:
    import torch

NetworkClass = Literal["AutoencoderKL", "AutoencoderDC", "UNet2DConditionModel", "MultiviewUNet", "CLIPTextModel"]
MOST_LAYERS = 1000
"""Of a level or an encoder: the network of a damaged configuration would take hours to build."""
_LAYERS = ("num_hidden_layers", "layers_per_block", "transformer_layers_per_block")
SCALING_FACTORS = (1e-3, 1e3)
"""Least and greatest factor of latents; published ones lie between 0.1 and 1.6."""
NEUTRAL_SHIFTS = {"shift_factor": 0.0, "latents_mean": 0.0, "latents_std": 1.0}
"""Values of an autoencoder's configuration that change no latent."""
AUTOENCODERS: tuple[NetworkClass, ...] = ("AutoencoderKL", "AutoencoderDC")


@dataclass(frozen=True, kw_only=True)
class CheckedNetwork:
    """A folder whose files fit its configuration.

    `network` has no values (it is on the meta device). `stated` is config.json's content, `config` has the library's
    defaults, too. `summary` counts tensors and parameters.
    `single_file` is set if the names are those of the original layout (LDM).
    """

    kind: NetworkClass
    stated: dict[str, Any]
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
    try:
        network = _filled(checked, _tensors(folder, checked), dtype or torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"{prefix}: expected a {checked.kind} that loads, found {one_line(error)}") from error
    check_values(prefix, network.state_dict().items())
    return network


def _tensors(folder: Path, checked: CheckedNetwork) -> "dict[str, torch.Tensor]":
    """The tensors of the files under the names that the network has for them."""
    tensors = {name: tensor for file in checked.files.files for name, tensor in read_tensors(file)}
    if checked.single_file:
        tensors = converted(folder, checked.kind, checked.config, tensors)
    renamed = _renaming(checked.kind)
    names = {renamed(name): name for name in checked.network.state_dict()}
    return {names[renamed(name)]: tensor for name, tensor in tensors.items() if not ignored(name)}


def _filled(checked: CheckedNetwork, tensors: "dict[str, torch.Tensor]", dtype: "torch.dtype") -> Any:
    """The network with copies of these tensors, for inference; buffers that no file holds are computed."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        network = _made(checked.kind, checked.stated)
    network.load_state_dict({name: _copied(tensor, dtype) for name, tensor in tensors.items()}, assign=True)  # strictly
    return network.eval()


def _copied(tensor: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """A copy, since the tensor may be a view of the file or share memory with another one."""
    import torch

    target = dtype if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(target, copy=True, memory_format=torch.contiguous_format)


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a network. Raises SpinMeRoundError if it is missing or no JSON, or of quantised weights."""
    path = folder / "config.json"
    if not path.exists():
        raise SpinMeRoundError(f"{folder}: expected a model's folder with config.json, found none")
    found = read_json_object(path, "a network's configuration")
    if found.get("quantization_config") is not None:
        raise SpinMeRoundError(
            f"{path}: quantization_config: expected none, found quantised weights; get the weights before quantisation"
        )
    return found


def _compared(folder: Path, kinds: tuple[NetworkClass, ...]) -> CheckedNetwork:
    config = read_config(folder)
    kind = kinds[0]
    if kind != "CLIPTextModel":  # transformers' configurations name no class reliably
        stated = config.get("_class_name")
        if stated not in kinds:
            raise SpinMeRoundError(
                f"{folder}: expected the config.json of {' or '.join(kinds)}, found {printable(str(stated))}"
            )
        kind = stated
    network = _without_values(folder, kind, config)
    if kind in AUTOENCODERS:
        _check_scaling_factor(folder / "config.json", network.config["scaling_factor"])
        _check_shift(folder / "config.json", config)
    files = single_file(folder, kind) or network_files(folder, transformers=kind == "CLIPTextModel")
    found = files.headers()
    if is_ldm := is_single_file(kind, found):
        found = _converted_headers(folder, kind, network.config, found)
    try:
        summary = compare(folder, _headers(network.state_dict()), found, _renaming(kind))
    except SpinMeRoundError as error:
        layout = " (converted from the single-file layout (LDM) by this config.json)" if is_ldm else ""
        raise SpinMeRoundError(f"{error}{layout}") from error
    return CheckedNetwork(kind=kind, stated=config, network=network, files=files, summary=summary, single_file=is_ldm)


def _converted_headers(
    folder: Path, kind: NetworkClass, config: Mapping[str, Any], found: Mapping[str, TensorHeader]
) -> dict[str, TensorHeader]:
    """What the tensors of a single file are as those of a network of diffusers; an unknown dtype counts as bytes."""
    import torch

    empty = {
        name: torch.empty(header.shape, dtype=getattr(torch, header.dtype, torch.uint8), device="meta")
        for name, header in found.items()
    }
    return _headers(converted(folder, kind, config, empty))


def _headers(tensors: "Mapping[str, torch.Tensor]") -> dict[str, TensorHeader]:
    return {
        name: TensorHeader(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in tensors.items()
    }


def _check_scaling_factor(path: Path, value: Any) -> None:
    least, greatest = SCALING_FACTORS
    if type(value) not in (int, float) or not least <= value <= greatest:  # nor a NaN
        raise SpinMeRoundError(
            f"{path}: scaling_factor: expected a number from {least:g} to {greatest:g}, found "
            f"{shortened(repr(value), 40)}; get the config.json that belongs to these weights"
        )


def _check_shift(path: Path, stated: Mapping[str, Any]) -> None:
    """Raises SpinMeRoundError if latents are shifted, or scaled by channel, which `models.diffusion.latents` is not."""
    for name, neutral in NEUTRAL_SHIFTS.items():
        value = stated.get(name)
        numbers = [] if value is None else value if isinstance(value, list) else [value]
        if any(type(number) not in (int, float) or number != neutral for number in numbers):
            raise SpinMeRoundError(
                f"{path}: {name}: expected none or {neutral:g}, since scaling_factor alone scales latents here, found "
                f"{shortened(repr(value), 40)}; use an autoencoder without it, such as Stable Diffusion 1.5's"
            )


def _renaming(kind: NetworkClass) -> Callable[[str], str]:
    return clip_name if kind == "CLIPTextModel" else current_name


def _without_values(folder: Path, kind: NetworkClass, config: dict[str, Any]) -> Any:
    """The network that a configuration describes, without memory for its weights."""
    import torch

    for name in _LAYERS:
        if isinstance(value := config.get(name), int) and value > MOST_LAYERS:
            found = shortened(str(value), 40)
            raise SpinMeRoundError(f"{folder / 'config.json'}: {name}: expected at most {MOST_LAYERS}, found {found}")
    _class(kind)  # outside: a missing library is not a fault of the file
    try:
        with torch.device("meta"):
            return _made(kind, config)
    except Exception as error:  # whatever the libraries raise, the file does not fit
        raise SpinMeRoundError(
            f"{folder / 'config.json'}: expected the configuration of a {kind}, found one that does not fit: "
            f"{one_line(error)}"
        ) from error


def _made(kind: NetworkClass, config: dict[str, Any]) -> Any:
    if kind == "CLIPTextModel":
        from transformers import CLIPTextConfig

        return _class(kind)(CLIPTextConfig(**config))
    return _class(kind).from_config(config)


def _class(kind: NetworkClass) -> Any:
    if kind == "CLIPTextModel":
        from transformers import CLIPTextModel

        return CLIPTextModel
    if kind == "MultiviewUNet":
        from spinmeround.models.diffusion.unet import MultiviewUNet

        return MultiviewUNet
    import diffusers

    return getattr(diffusers, kind)
