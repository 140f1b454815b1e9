"""The gate for numbers: nothing that is NaN, infinite, or blank where it can't be enters the store.

`check_payload` examines what a stage has made, before it becomes an artifact; `check_arrays` and `check_tensors` do the
same for values in memory. All raise SpinMeRoundError, which names the file and the array.
"""

import json
import math
import pickle
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from spinmeround.storage.errors import SpinMeRoundError, one_line, shortened

if TYPE_CHECKING:
    from torch import Tensor

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

MAY_BE_NAN = frozenset({"depth", "landmarks", "identity_views"})
"""Arrays in which NaN means absent: a ray without a hit, a landmark that a head lacks, a view without a face."""

NEVER_BLANK = frozenset({"latent", "identity", "cam2world", "intrinsics", "vertices", "faces", "mask"})
"""Arrays that are neither empty nor all zero."""


def json_text(value: Any, what: str, *, indent: int | None = 1) -> str:
    """JSON of finite numbers. Raises SpinMeRoundError, which begins with `what` and names the place of another."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as error:
        found = next(_not_finite(value, what), None)
        if found is None:
            raise
        raise SpinMeRoundError(f"{found[0]}: expected a finite number, found {found[1]}") from error


def _not_finite(value: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    elif isinstance(value, Mapping):
        yield from (each for key, inner in value.items() for each in _not_finite(inner, f"{place}: {key}"))
    elif isinstance(value, list | tuple):
        yield from (each for index, inner in enumerate(value) for each in _not_finite(inner, f"{place}[{index}]"))


def check_arrays(place: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Check numpy arrays by name; `place` begins the message. Raises SpinMeRoundError."""
    for name, array in arrays.items():
        if array.dtype.kind in "fc":
            wrong = np.isinf(array) if name in MAY_BE_NAN else ~np.isfinite(array)
            if wrong.any():
                raise SpinMeRoundError(
                    f"{place}: {name}: expected finite numbers, found {np.count_nonzero(wrong)} of {array.size} that "
                    f"are not (NaN or infinity, the first at {tuple(map(int, np.argwhere(wrong)[0]))})"
                )
        if name in NEVER_BLANK and not array.any():
            raise SpinMeRoundError(f"{place}: {name}: expected values, found {'only zeros' if array.size else 'none'}")


def check_varied(place: Path | str, arrays: Mapping[str, np.ndarray]) -> None:
    """Like `check_arrays`, and no array may have one value everywhere: a picture without content."""
    check_arrays(place, arrays)
    for name, array in arrays.items():
        if array.size and (array == array.flat[0]).all():
            raise SpinMeRoundError(f"{place}: {name}: expected a picture, found the value {array.flat[0]} everywhere")


def check_tensors(place: Path | str, tensors: "Iterable[tuple[str, Tensor]]", *, may_be_blank: bool = True) -> None:
    """Check torch tensors by name; unless they `may_be_blank`, not all may be zero. Raises SpinMeRoundError.

    Biases and sizes are vectors and differ from zero without training, so where there are matrices, these decide.
    """
    blank, floats = {True: True, False: True}, Counter[bool]()
    for name, tensor in tensors:
        if not tensor.is_floating_point():
            continue
        is_matrix = tensor.ndim > 1
        floats[is_matrix] += 1
        finite = tensor.float().isfinite()  # float64 too is computed with in float32
        if not bool(finite.all()):
            raise SpinMeRoundError(
                f"{place}: tensor {name}: expected finite numbers, found {int((~finite).sum())} of {tensor.numel()} "
                "that are not (NaN, infinity, or beyond float32)"
            )
        blank[is_matrix] = blank[is_matrix] and not bool(tensor.any())
    deciding = floats[True] > 0
    if floats[deciding] and blank[deciding] and not may_be_blank:
        raise SpinMeRoundError(f"{place}: expected values, found {floats[deciding]} tensors that are all zero")


def check_tensor_files(place: Path | str, files: Iterable[Path]) -> None:
    """Like `check_tensors` of trained weights, for .safetensors files and torch's pickles, which are read safely."""
    check_tensors(place, (named for file in files for named in read_tensors(file)), may_be_blank=False)


def check_payload(folder: Path, what: str) -> None:
    """Check all .json, .npz and .safetensors files below a folder; `what` begins the message.

    Zarr arrays are checked where they are written (`storage.dataset.head_group`), and files of another kind than their
    names say are left alone. Raises SpinMeRoundError.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".npz", ".safetensors") or path.is_symlink() or not path.is_file():
            continue
        place = f"{what}: {path.relative_to(folder).as_posix()}"
        if path.suffix == ".json":
            _check_json(path, place)
        elif path.suffix == ".npz" and zipfile.is_zipfile(path):
            check_arrays(place, dict(_numbers(path)))
        elif path.suffix == ".safetensors":
            check_tensor_files(place, [path])


def _check_json(path: Path, place: str) -> None:
    def refuse(constant: str) -> NoReturn:
        raise SpinMeRoundError(f"{place}: expected finite numbers, found {constant}")

    try:
        json.loads(path.read_bytes(), parse_constant=refuse)
    except SpinMeRoundError:
        raise
    except (ValueError, RecursionError):
        return


def _numbers(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an .npz that the gate looks at; pixels are not read."""
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as arrays:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            with archive.open(member) as file:
                major, _ = np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                kind = header(file)[2].kind
            if kind in "fc" or name in NEVER_BLANK:
                yield name, arrays[name]


def read_tensors(file: Path) -> "Iterator[tuple[str, Tensor]]":
    """The tensors of a .safetensors file or of torch's pickle. Raises SpinMeRoundError for another kind of file."""
    if file.suffix != ".safetensors":
        yield from pickled_tensors(file).items()
        return
    from safetensors import safe_open

    refuse_lfs_pointer(file)
    try:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                yield name, tensors.get_tensor(name)
    except Exception as error:  # of safetensors, whatever is wrong
        raise _no_tensors(file, error) from error


def pickled_tensors(file: Path, device: str = "cpu") -> "dict[str, Tensor]":
    """The tensors of torch's pickle, or of its `state_dict`; on the device "meta", none of their values are read.

    The weights-only loader executes no code. Raises SpinMeRoundError for another kind of file, and for a tensor that is
    sparse or quantised or was saved without values.
    """
    import torch

    refuse_lfs_pointer(file)
    try:
        loaded = _unpickled(file, device)
    except pickle.UnpicklingError as error:
        raise SpinMeRoundError(
            f"{file}: expected a pickle with tensors only, found code or no pickle; "
            "download it from its publisher again"
        ) from error
    except Exception as error:  # of torch, whatever is wrong
        if device == "meta":  # where a sparse tensor cannot be: the values say what is wrong
            return pickled_tensors(file)
        raise _no_tensors(file, error) from error
    if isinstance(loaded, Mapping):
        loaded = loaded.get("state_dict", loaded)  # of a training script
    if not isinstance(loaded, Mapping):
        raise SpinMeRoundError(f"{file}: expected tensors by name, found a {type(loaded).__name__}")
    if unnamed := [key for key in loaded if not isinstance(key, str)]:
        raise SpinMeRoundError(f"{file}: expected tensors by name, found the key {shortened(repr(unnamed[0]), 40)}")
    tensors = {name: tensor for name, tensor in loaded.items() if isinstance(tensor, torch.Tensor)}
    if loaded and not tensors:
        shown = shortened(", ".join(map(repr, loaded)), 80)
        raise SpinMeRoundError(f"{file}: expected tensors by name, found none under {shown}; save the state_dict alone")
    for name, tensor in tensors.items():
        _check_stored(file, name, tensor, device)
    return tensors


def _unpickled(file: Path, device: str) -> Any:
    import torch

    _check_alignment(file)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Validating sparse tensor invariants")
        return torch.load(file, map_location=device, weights_only=True)  # noqa: TID251 (runs no code)


def _check_alignment(file: Path) -> None:
    """Raises SpinMeRoundError for an archive whose alignment is no positive number: torch would divide by it."""
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/.storage_alignment")]
            stated = [int(archive.read(name)) for name in names]
    except Exception as error:  # of a damaged archive
        raise SpinMeRoundError(f"{file}: expected an archive of torch, found {one_line(error, 120)}") from error
    if any(value < 1 for value in stated):
        raise SpinMeRoundError(
            f"{file}: expected an alignment of 1 or more bytes, found {stated[0]}; get the file again"
        )


def _check_stored(file: Path, name: str, tensor: "Tensor", device: str) -> None:
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized:
        found = "a quantised one" if tensor.is_quantized else f"a sparse one ({tensor.layout})"
        raise SpinMeRoundError(f"{file}: tensor {name}: expected a dense tensor, found {found}; save it dense")
    if tensor.device.type != device:
        raise SpinMeRoundError(
            f"{file}: tensor {name}: expected values, found a tensor on the device {tensor.device.type!r}, which has "
            "none; load the network with its weights, then save it again"
        )


def refuse_lfs_pointer(path: Path) -> None:
    """Raises SpinMeRoundError if a file is git-lfs's pointer to the content; a missing file is left to its reader."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise SpinMeRoundError(
                f"{path}: expected the content, found git-lfs's pointer to it; run 'git lfs pull' in {path.parent}, or "
                "download the file"
            )


def _no_tensors(file: Path, error: Exception) -> SpinMeRoundError:
    return SpinMeRoundError(f"{file}: expected a complete file of tensors, found {one_line(error, 200)}")
