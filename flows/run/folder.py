"""The folder of a run, which holds everything that a run writes.

run.json            the profile's name and when the folder was made
store/              the artifact store, unless the place names another folder or an object store
datasets/           published datasets
training/           checkpoints of a training in progress
ablation/           table and figure of the last ablation
decisions.json      review decisions, unless the profile names another file
labels.json         labels of heads by a person who did not see the verdicts
verdict.json        the verdict that `screen calibrate` learned
report.html, summary.json, summaries/
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field
from pydantic_core import from_json

from spinmeround.storage.artifacts import is_url
from spinmeround.storage.errors import ConfigError, environment_errors, shortened
from spinmeround.storage.files import make_folder, owned_folder, sweep_owned_folders, write_atomic
from spinmeround.storage.manifests import is_litter, stated_version
from spinmeround.storage.records import FrozenModel

MARKER = "run.json"
SCHEMA_VERSION = 1
_TEMP = ".tmp"


class Place(FrozenModel):
    """Location of a run and of its artifacts; relative paths start at the working folder."""

    runs: str = Field(default="runs", description="Folder of all runs")
    out: str | None = Field(default=None, description="Folder of this run; default: RUNS/PROFILE")
    store: str | None = Field(
        default=None, description="Artifact store, a folder or s3://bucket/prefix; default: 'store' in the run's folder"
    )


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths in a run's folder, which `open_run` creates and `find_run` finds."""

    root: Path
    store: Path | str
    """A folder, or the URL of an object store."""

    @property
    def marker(self) -> Path:
        return self.root / MARKER

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def decisions(self) -> Path:
        return self.root / "decisions.json"

    @property
    def labels(self) -> Path:
        return self.root / "labels.json"

    @property
    def verdict(self) -> Path:
        return self.root / "verdict.json"

    @property
    def ablation(self) -> Path:
        return self.root / "ablation"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    def replace(self, file: Path, data: bytes) -> None:
        """Replace a file of this folder atomically; the next run removes what a killed writer leaves."""
        with owned_folder(self.root / _TEMP, file.stem) as scratch:
            write_atomic(file, data, scratch=scratch)


def open_run(place: Place, profile: str) -> RunFolder:
    """The run folder of a profile, created if it does not exist.

    Raises:
        ConfigError: the folder belongs to another profile, or it is not empty and not a run folder.
        StorageUnavailable: the folder is not writable.
    """
    folder = named_run(place, profile)
    refuse_file(folder.root, "run folder")
    if isinstance(folder.store, Path):
        refuse_file(folder.store, "run folder")
    with environment_errors(folder.root):
        make_folder(folder.root)
        sweep_owned_folders(folder.root / _TEMP)
        _claim(folder, profile)
    return folder


def find_run(place: Place, profile: str) -> RunFolder:
    """The existing run folder of a profile; writes nothing.

    Raises ConfigError if it does not exist or belongs to another profile.
    """
    folder = named_run(place, profile)
    if not folder.marker.is_file():
        raise ConfigError(
            f"run folder {folder.root}: expected a run of profile {profile!r}, found none; 'spinmeround build' creates "
            "it, --runs and --out name another"
        )
    _check_owner(folder.root, profile)
    return folder


def named_run(place: Place, profile: str) -> RunFolder:
    """The run folder of a profile, which need not exist; does not access the disk."""
    root = Path(place.out) if place.out else Path(place.runs) / profile
    store = store_root(place.store) if place.store else (root / "store").absolute()
    return RunFolder(root=root.absolute(), store=store)


def store_root(store: str) -> Path | str:
    """The root of an artifact store from an option: a URL, or an absolute path."""
    return store if is_url(store) else Path(store).absolute()


def refuse_file(folder: Path, name: str) -> None:
    """Raises ConfigError that begins with `name` if the folder or one of its parents is a file."""
    blocked = next((part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()), None)
    if blocked:
        raise ConfigError(f"{name} {folder}: expected a folder at {blocked}, found a file; choose another path")


def _claim(folder: RunFolder, profile: str) -> None:
    root, marker = folder.root, folder.marker
    if not marker.exists():
        names = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
        if foreign := [name for name in names if not is_litter(name)][:3]:
            raise ConfigError(
                f"run folder {root}: expected an empty folder or one with run.json, found {', '.join(foreign)}; "
                "choose another folder with --out"
            )
        created = datetime.now(UTC).isoformat(timespec="seconds")
        stated = {"schema_version": SCHEMA_VERSION, "profile": profile, "created": created}
        folder.replace(marker, json.dumps(stated, indent=1, allow_nan=False).encode())
    _check_owner(root, profile)


def _check_owner(root: Path, profile: str) -> None:
    found = _owner(root / MARKER)
    if found != profile:
        raise ConfigError(
            f"run folder {root}: expected a run of profile {profile!r}, found one of {shortened(found, 80)!r}; "
            "choose another folder with --out or --runs"
        )


def _owner(marker: Path) -> str:
    try:
        data = marker.read_bytes()
        if (version := stated_version(data)) > SCHEMA_VERSION:
            raise ConfigError(
                f"{marker}: schema version {version}, this software reads up to {SCHEMA_VERSION}; use a newer version"
            )
        return str(from_json(data)["profile"])
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, IsADirectoryError) as error:
        raise ConfigError(
            f"{marker}: expected JSON with the profile's name, found other content; restore or remove the file"
        ) from error
