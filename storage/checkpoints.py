"""Checkpoints of a training run: each is complete or absent; the newest and the best are kept, damaged ones skipped.

    <folder>/step-000000500/   tensors.safetensors, state.json, manifest.json

A checkpoint is written to a temporary folder, gets its manifest last, is flushed and renamed. Only tensors and JSON
are stored, so loading one executes no code.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, FiniteFloat

from spinmeround.storage.errors import StoreError, environment_errors
from spinmeround.storage.files import flush_tree, owned_folder, rename_folder, sweep_owned_folders, write_atomic
from spinmeround.storage.hashing import canonical_json, sha256_listing
from spinmeround.storage.manifests import FileRecord, RelativeName, content_problem, record_files
from spinmeround.storage.numbers import check_tensors
from spinmeround.storage.records import FrozenModel
from spinmeround.storage.sealed import sealed_json, unsealed

if TYPE_CHECKING:
    import torch

_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_STATE = "state.json"


class CheckpointManifest(FrozenModel):
    """Files and step of a checkpoint, and its validation loss if it was measured at this step."""

    schema_version: Literal[1] = 1
    step: int = Field(ge=0)
    validation: FiniteFloat | None = None
    files: dict[RelativeName, FileRecord] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A complete checkpoint on disk."""

    step: int
    path: Path

    def tensors(self, prefix: str = "") -> "dict[str, torch.Tensor]":
        """The tensors whose names begin with `prefix`, on the CPU, by the rest of their names. Reads no others."""
        from safetensors import safe_open

        with safe_open(self.path / _TENSORS, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (no mapping)
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}

    def state(self) -> Any:
        """The JSON state."""
        return json.loads((self.path / _STATE).read_bytes())

    def fingerprint(self) -> str:
        """Checksum of its content, as its manifest states it; reads no tensor. Raises StoreError for a damaged one."""
        manifest = _manifest(self.path)
        if manifest is None:
            raise StoreError(f"{self.path}: expected a checkpoint's {_MANIFEST}, found a damaged one; use another")
        return sha256_listing({name: record.sha256 for name, record in manifest.files.items()})

    def problem(self) -> str | None:
        """What is wrong with it, None if every byte is as its manifest states."""
        manifest = _manifest(self.path)
        if manifest is None or set(manifest.files) != {_TENSORS, _STATE} or manifest.step != _step(self.path):
            return f"{_MANIFEST} is damaged"
        problems = (content_problem(self.path, name, record) for name, record in manifest.files.items())
        return next((problem for problem in problems if problem), None)


class Checkpoints:
    """The checkpoints in `folder`; one process writes, any number may read.

    Keeps the newest `keep`, and the `keep_best` of the lowest validation losses.
    """

    def __init__(self, folder: Path, keep: int = 2, keep_best: int = 0) -> None:
        if keep < 1:
            raise StoreError(f"checkpoints: keep: expected at least 1, got {keep}")
        self.folder = Path(folder)
        self.keep, self.keep_best = keep, keep_best

    def save(
        self,
        step: int,
        tensors: "Mapping[str, torch.Tensor]",
        state: Mapping[str, Any],
        *,
        validation: float | None = None,
    ) -> Checkpoint:
        """Save a checkpoint atomically and delete those that are not kept.

        Tensors that share memory are saved separately. `validation` is the validation loss at this step, if known.

        Raises StoreError if `state` is not JSON, StorageUnavailable if the file system fails, and SpinMeRoundError,
        which names the tensor, for values that are not finite.
        """
        from safetensors.torch import save_file

        encoded = canonical_json(dict(state))
        check_tensors(f"checkpoint of step {step}", tensors.items())
        with environment_errors(self.folder):
            sweep_owned_folders(self.folder / "tmp")
            with owned_folder(self.folder / "tmp", f"step-{step}") as out:
                save_file({name: _own_memory(tensor) for name, tensor in tensors.items()}, out / _TENSORS)
                (out / _STATE).write_bytes(encoded)
                manifest = CheckpointManifest(step=step, validation=validation, files=record_files(out))
                write_atomic(out / _MANIFEST, sealed_json(manifest))
                flush_tree(out)
                final = self._path(step)
                if final.exists():
                    shutil.rmtree(final)
                rename_folder(out, final)
            self._prune()
        return Checkpoint(step=step, path=final)

    def latest(self, *, before: int | None = None) -> Checkpoint | None:
        """The newest intact checkpoint, or None; checks every byte and skips incomplete and damaged ones.

        With `before`, the newest up to that step; where all are later, the oldest.
        """
        paths = self._paths()
        earlier = [path for path in paths if before is None or _step(path) <= before]
        found = (self._checked(path) for path in (*reversed(earlier), *paths[len(earlier) :]))
        return next((checkpoint for checkpoint in found if checkpoint is not None), None)

    def remove_later(self, step: int) -> None:
        """Remove the checkpoints of later steps."""
        with environment_errors(self.folder):
            for path in self._paths():
                if _step(path) > step:
                    shutil.rmtree(path)

    def steps(self) -> list[int]:
        """Steps with a folder, in ascending order; their checkpoints may be damaged."""
        return [_step(path) for path in self._paths()]

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.is_dir() and _step(path) >= 0)

    def _prune(self) -> None:
        older = self._paths()[: -self.keep]
        losses = {path: manifest.validation for path in self._paths() if (manifest := _manifest(path)) is not None}
        known = sorted((loss, path) for path, loss in losses.items() if loss is not None)
        best = {path for _, path in known[: self.keep_best]}
        for path in older:
            if path not in best:
                shutil.rmtree(path)

    def _checked(self, path: Path) -> Checkpoint | None:
        found = Checkpoint(step=_step(path), path=path)
        return None if found.problem() else found


def find_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in this folder of a step, or the newest of a folder of checkpoints; its content is not checked."""
    if _step(folder) >= 0 and (folder / _MANIFEST).is_file():
        return Checkpoint(step=_step(folder), path=folder)
    paths = sorted(path for path in folder.glob("step-*") if _step(path) >= 0 and (path / _MANIFEST).is_file())
    return Checkpoint(step=_step(paths[-1]), path=paths[-1]) if paths else None


def _manifest(path: Path) -> CheckpointManifest | None:
    """The manifest of a checkpoint; None if it is missing or damaged."""
    try:
        return CheckpointManifest.model_validate(unsealed((path / _MANIFEST).read_bytes()))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


def _own_memory(tensor: "torch.Tensor") -> "torch.Tensor":
    return tensor.detach().to("cpu", copy=True).contiguous()
