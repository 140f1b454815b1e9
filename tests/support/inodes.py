"""Counts the files and folders of a store by stage, and of a dataset."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from spinmeround.storage.artifacts.backend import RESERVED_FOLDERS


@dataclass(frozen=True, kw_only=True)
class StoreInodes:
    """Files and folders of each stage's artifacts, all others of the store, and the number of artifacts by stage."""

    artifacts: Counter[str]
    inodes: Counter[str]
    others: int

    def per_artifact(self) -> dict[str, float]:
        return {stage: self.inodes[stage] / self.artifacts[stage] for stage in self.artifacts}


def store_inodes(store: Path) -> StoreInodes:
    """Count a local store. The folders that artifacts of a stage share, 257 at most, count as `others`."""
    artifacts: Counter[str] = Counter()
    inodes: Counter[str] = Counter()
    others = 0
    for folder, _, files in os.walk(store):
        parts = Path(folder).relative_to(store).parts
        if len(parts) < 3 or parts[0] in RESERVED_FOLDERS:
            others += 1 + len(files)
            continue
        artifacts[parts[0]] += len(parts) == 3
        inodes[parts[0]] += 1 + len(files)
    return StoreInodes(artifacts=artifacts, inodes=inodes, others=others)


def dataset_inodes(dataset: Path) -> tuple[int, int]:
    """Files and folders that a dataset adds to a file system, and its hard links to files of artifacts."""
    own = links = 0
    for folder, _, files in os.walk(dataset):
        linked = sum(os.lstat(os.path.join(folder, name)).st_nlink > 1 for name in files)
        own, links = own + 1 + len(files) - linked, links + linked
    return own, links
