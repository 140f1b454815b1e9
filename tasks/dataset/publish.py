"""Publish: join the written heads into one frozen dataset and take its digest.

Artifact: `dataset.json` {"digest", "heads"}. The dataset itself stands in the run's folder, named by its digest, so
another dataset never takes its place, and `versions.json` beside it says which came after which. One that was
deleted or lost a file is joined anew from the heads' artifacts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from spinmeround.storage.artifacts import Artifact, ArtifactStore, artifact_key, is_url
from spinmeround.storage.dataset import ARRAYS, DatasetInfo, HeadEntry, is_standing, record_version
from spinmeround.storage.dataset import publish as publish_dataset
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.heads.generator import generator_record
from spinmeround.tasks.stage import Head, Outcome, StageParams, key_values

VERSION = 1


class PublishParams(StageParams):
    """How the heads are split, and what a reader of the dataset must know of its terms."""

    validation_share: float = Field(0.1, ge=0.0, lt=1.0, description="Share of heads for validation, by hash of the id")
    test_share: float = Field(0.1, ge=0.0, lt=1.0, description="Share of heads for testing, by hash of the id")
    licence: str = Field("CC0-1.0: procedural heads, no real person", description="Terms of the pictures")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the heads that were asked for.

    `asked` is `dropped` + `quarantined` + `written` + `pending` (not made yet), `dropped` the sum of
    `screened_out`, where a head counts under its first reason; in `screen_reasons` it counts under each
    ("review" is a person's). `kept_by_review` are those that the screen would have dropped and a person kept.
    """

    asked: int
    screened_out: Mapping[str, int]
    screen_reasons: Mapping[str, int] = field(default_factory=dict)
    dropped: int
    kept_by_review: int = 0
    quarantined: int
    written: int
    pending: int = 0


@dataclass(frozen=True, kw_only=True)
class Published:
    """A frozen dataset on disk."""

    path: Path
    digest: str
    key: str
    outcome: Outcome
    url: str | None = None
    """Where it stands in the object store, if the artifacts are in one."""


def publish_key(keys: Mapping[str, str], attributes: Mapping[str, Any]) -> str:
    """Content address of the dataset of these written heads (id -> key of its write artifact)."""
    return artifact_key("publish", VERSION, dict(attributes), dict(keys))


def publish(
    store: ArtifactStore,
    heads: Sequence[Head],
    write_keys: Mapping[str, str],
    attributes: Mapping[str, Any],
    datasets: Path,
) -> Published:
    """Join the heads' groups under `datasets`.

    Every byte is checked on the way: raises CorruptArtifact where a head is not what its manifest says (it has then
    been moved aside, and the next build makes it again), DatasetError where no head is left.
    """
    if not heads:
        raise DatasetError("publish: expected at least one written head, found none; ask for more heads (plan.heads)")
    keys = {head.id: write_keys[head.id] for head in heads}
    key = publish_key(keys, attributes)
    with store.lock("publish", key):
        frozen = _frozen(store, key, datasets)
        if frozen is not None:
            record_version(datasets, frozen.digest, len(heads))
            url = _upload(store, frozen.path, keys)
            return Published(path=frozen.path, digest=frozen.digest, key=key, outcome="reused", url=url)
        entries = [_entry(store.verify("write", keys[head.id]), head) for head in heads]
        info = publish_dataset(datasets, entries, attributes)
        record_version(datasets, info.digest, len(heads))
        url = _upload(store, info.path, keys)
        if not store.has("publish", key):
            with store.commit(
                "publish", key, version=VERSION, params=dict(attributes), inputs=keys, weights="", subject="dataset"
            ) as out:
                (out / "dataset.json").write_text(json.dumps({"digest": info.digest, "heads": len(heads)}))
    return Published(path=info.path, digest=info.digest, key=key, outcome="made", url=url)


def share_latents(store: ArtifactStore, dataset: Path, keys: Mapping[str, str]) -> None:
    """Put a dataset's latents beside it where the artifacts (`encode`; head's id to key) are in an object store."""
    if is_url(store.root):
        from spinmeround.storage.dataset.upload import upload_latents

        upload_latents(store, dataset, keys)


def _upload(store: ArtifactStore, dataset: Path, keys: Mapping[str, str]) -> str | None:
    if not is_url(store.root):
        return None
    from spinmeround.storage.dataset.upload import upload_dataset  # it takes the object store's libraries along

    return upload_dataset(store, dataset, keys)


def _entry(artifact: Artifact, head: Head) -> HeadEntry:
    # the others are read and written anew, and those of ten thousand heads take much memory
    linked = tuple(f"{name}/c/" for name, spec in ARRAYS.items() if spec.linked)
    checksums = {name: record.sha256 for name, record in artifact.manifest.files.items() if name.startswith(linked)}
    return HeadEntry(id=head.id, folder=artifact.path, checksums=checksums)


def _frozen(store: ArtifactStore, key: str, datasets: Path) -> DatasetInfo | None:
    """The dataset that was made under this key, if it still stands with all its files."""
    if not store.has("publish", key):
        return None
    digest = json.loads((store.verify("publish", key).path / "dataset.json").read_text())["digest"]
    path = datasets / f"{digest[:12]}.zarr"
    return DatasetInfo(path=path, digest=digest) if is_standing(path, digest) else None


def dataset_attributes(
    sections: Mapping[str, StageParams], fingerprints: Mapping[str, str], counts: Counts, params: PublishParams
) -> dict[str, Any]:
    """The group attributes of a dataset: where it comes from, as the schema has it."""
    return {
        "generator": generator_record(sections),
        "fingerprints": dict(fingerprints),
        "parameters": {name: key_values(section) for name, section in sections.items()},
        "view_grid": sections["views"].model_dump(mode="json"),
        "counts": asdict(counts),
        "split": {"validation": params.validation_share, "test": params.test_share},
        "licence": params.licence,
    }
