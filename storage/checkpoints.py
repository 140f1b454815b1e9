"""Checkpoints of a training run: whole or absent, the newest few kept, damaged ones passed over.

    <folder>/step-000000500/   tensors.safetensors, state.json, manifest.json

A checkpoint is written in a temp folder, flushed, given its manifest last and renamed. Only tensors and
JSON are stored, so that loading one runs no code.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors.torch import load_file, save_file

from spinmeround.storage.errors import StoreError, environment_errors
from spinmeround.storage.files import flush_tree, owned_folder, rename_folder, sweep_owned_folders, write_atomic
from spinmeround.storage.hashing import canonical_json
from spinmeround.storage.manifests import FileRecord, RelativeName, content_problem, record_files
from spinmeround.storage.records import FrozenModel

_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_STATE = "state.json"


class CheckpointManifest(FrozenModel):
    """Files of a checkpoint and the step that they belong to."""

    schema_version: Literal[1] = 1
    step: int = Field(ge=0)
    files: dict[RelativeName, FileRecord] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    step: int
    path: Path

    def tensors(self, device: str = "cpu") -> dict[str, torch.Tensor]:
        """All tensors by name, as they were saved."""
        return load_file(self.path / _TENSORS, device=device)

    def state(self) -> Any:
        """The JSON state, as it was saved."""
        return json.loads((self.path / _STATE).read_bytes())


class Checkpoints:
    """The checkpoints in `folder`, of which the newest `keep` stay. One process writes, any number read."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        if keep < 1:
            raise StoreError(f"checkpoints: keep: expected at least 1, got {keep}")
        self.folder = Path(folder)
        self.keep = keep

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Checkpoint:
        """Save atomically and drop the oldest. Tensors that share memory are saved each on its own.

        Raises StoreError where `state` is not JSON, StorageUnavailable where the disk refuses.
        """
        encoded = canonical_json(dict(state))
        with environment_errors(self.folder):
            sweep_owned_folders(self.folder / "tmp")
            with owned_folder(self.folder / "tmp", f"step-{step}") as out:
                save_file({name: _own_memory(tensor) for name, tensor in tensors.items()}, out / _TENSORS)
                (out / _STATE).write_bytes(encoded)
                manifest = CheckpointManifest(step=step, files=record_files(out))
                write_atomic(out / _MANIFEST, manifest.model_dump_json(indent=1).encode())
                flush_tree(out)
                final = self._path(step)
                if final.exists():
                    shutil.rmtree(final)
                rename_folder(out, final)
            self._prune()
        return Checkpoint(step=step, path=final)

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint (every byte is checked), or None; incomplete and damaged ones are skipped."""
        found = (self._checked(path) for path in reversed(self._paths()))
        return next((checkpoint for checkpoint in found if checkpoint is not None), None)

    def steps(self) -> list[int]:
        """Steps of which there is a folder, in rising order; `latest` says which is whole."""
        return [_step(path) for path in self._paths()]

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}"

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if path.is_dir() and _step(path) >= 0)

    def _prune(self) -> None:
        for path in self._paths()[: -self.keep]:
            shutil.rmtree(path)

    def _checked(self, path: Path) -> Checkpoint | None:
        try:
            manifest = CheckpointManifest.model_validate_json((path / _MANIFEST).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        whole = set(manifest.files) == {_TENSORS, _STATE} and manifest.step == _step(path)
        if not whole or any(content_problem(path, name, record) for name, record in manifest.files.items()):
            return None
        return Checkpoint(step=manifest.step, path=path)


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdecimal() else -1


def _own_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
