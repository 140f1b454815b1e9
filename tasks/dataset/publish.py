"""Publish: join the artifacts of complete heads into one frozen dataset with a digest.

Pixel files come from the stages `render` and `normals`, as hard links; embeddings come from `embed`, cameras from the
view grid.

Artifact: `dataset.json` {"digest", "heads"}. The dataset itself is in the run's folder, named by its digest, so no
dataset replaces another; `versions.json` next to it records their order. A dataset that was deleted or lost a file is
joined again from the artifacts.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.artifacts import Artifact, ArtifactStore, artifact_key, is_url
from spinmeround.storage.dataset import DatasetInfo, HeadParts, is_intact, record_version
from spinmeround.storage.dataset import publish as publish_dataset
from spinmeround.storage.errors import DatasetError, StoreError
from spinmeround.tasks.heads.embed import load_embeddings
from spinmeround.tasks.heads.generator import generator_record
from spinmeround.tasks.heads.registry import PUBLISHED_STAGES
from spinmeround.tasks.stage import Head, Outcome, StageParams, key_values

VERSION = 1
_PICTURES = {"rgb": "render", "mask": "render", "normals": "normals"}
"""The pixel arrays of a dataset, and the stages that make them."""

HeadKeys = Mapping[str, Mapping[str, str]]
"""Artifact keys: head id -> stage -> key."""


class PublishParams(StageParams):
    """The split of the heads, and the licence."""

    validation_share: float = Field(0.1, ge=0.0, lt=1.0, description="Share of heads for validation, by hash of the id")
    test_share: float = Field(0.1, ge=0.0, lt=1.0, description="Share of heads for testing, by hash of the id")
    licence: str = Field("CC0-1.0: procedural heads, no real person", description="Licence of the images")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the planned heads.

    `asked`, the number of planned heads, is `dropped` + `quarantined` + `written` + `pending` (not made yet).
    `dropped` is the sum of `screened_out`, which counts each head under its first reason; `screen_reasons` counts it
    under each ("review" is a person's). `kept_by_review` heads were kept by a person against the screen.
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
    """URL of its copy in the object store, if the artifacts are in one."""


def publish_key(keys: HeadKeys, attributes: Mapping[str, Any]) -> str:
    """Key of the dataset of these heads."""
    return artifact_key("publish", VERSION, dict(attributes), _inputs(keys))


def publish(
    store: ArtifactStore,
    heads: Sequence[Head],
    keys: HeadKeys,
    cameras: Cameras,
    attributes: Mapping[str, Any],
    datasets: Path,
) -> Published:
    """Join complete heads into a dataset under `datasets`; `keys` may hold those of other heads and stages too.

    Every byte is verified. Raises CorruptArtifact if an artifact does not match its manifest (it was moved aside, and
    the next build makes it again), DatasetError if there are no heads.
    """
    if not heads:
        raise DatasetError("publish: expected at least one complete head, found none; raise plan.heads")
    joined = {head.id: {stage: keys[head.id][stage] for stage in PUBLISHED_STAGES} for head in heads}
    key, made = publish_key(joined, attributes), list[DatasetInfo]()

    def join() -> DatasetInfo:
        parts = [head_parts(store, head, joined[head.id], cameras) for head in heads]
        return publish_dataset(datasets, parts, attributes)

    def make(out: Path) -> None:
        made.append(join())
        (out / "dataset.json").write_text(
            json.dumps({"digest": made[0].digest, "heads": len(heads)}, allow_nan=False), encoding="utf-8"
        )

    store.make_once(
        "publish",
        key,
        make,
        version=VERSION,
        params=dict(attributes),
        inputs=_inputs(joined),
        weights="",
        subject="dataset",
    )
    frozen = None if made else _frozen(store, key, datasets)
    info = frozen or (made[0] if made else join())  # the artifact may outlive its dataset
    record_version(datasets, info.digest, len(heads))
    url = _upload(store, info.path, joined)
    return Published(path=info.path, digest=info.digest, key=key, outcome="reused" if frozen else "made", url=url)


def published_digests(store: ArtifactStore, heads: Iterable[str]) -> dict[str, str]:
    """The digests of the datasets that were published of exactly these heads, and the artifact that states each.

    Artifacts that are damaged or of newer software are left out; `spinmeround store verify` reports them.
    """
    found, wanted = {}, set(heads)
    for entry in store.backend.entries("publish"):
        with suppress(StoreError, OSError, ValueError, KeyError, TypeError):
            artifact = store.verify("publish", entry.key)
            if {name.partition("/")[0] for name in artifact.manifest.inputs} == wanted:
                stated = json.loads((artifact.path / "dataset.json").read_bytes())
                found[str(stated["digest"])] = f"{store.root}/publish/{entry.key[:12]}"
    return found


def head_parts(store: ArtifactStore, head: Head, keys: Mapping[str, str], cameras: Cameras) -> HeadParts:
    """The arrays of a head, from its verified artifacts. Raises MissingArtifact, CorruptArtifact as `store.verify`."""
    artifacts = {stage: store.verify(stage, keys[stage]) for stage in PUBLISHED_STAGES}
    pictures = {name: artifacts[stage] for name, stage in _PICTURES.items()}
    return HeadParts(
        id=head.id,
        pictures={name: artifact.path for name, artifact in pictures.items()},
        read=partial(_small_array, head=head, cameras=cameras, embed=artifacts["embed"].path),
        checksums={file: sha for stage in set(_PICTURES.values()) for file, sha in _checksums(artifacts[stage])},
    )


def share_latents(store: ArtifactStore, dataset: Path, keys: Mapping[str, str]) -> None:
    """Upload a dataset's latents if the artifacts (`encode`: head id -> key) are in an object store."""
    if is_url(store.root):
        from spinmeround.storage.dataset.upload import upload_latents

        upload_latents(store, dataset, {id: {"encode": key} for id, key in keys.items()})


def dataset_attributes(
    generator: GeneratorConfig,
    views: ViewGrid,
    params: PublishParams,
    *,
    sections: Mapping[str, BaseModel],
    fingerprints: Mapping[str, str],
    counts: Counts,
) -> dict[str, Any]:
    """The group attributes of a dataset: its provenance, as in the schema. `sections` are all that its stages read."""
    return {
        "generator": generator_record(generator),
        "fingerprints": dict(fingerprints),
        "parameters": {name: key_values(section) for name, section in sections.items()},
        "view_grid": views.model_dump(mode="json"),
        "counts": asdict(counts),
        "split": {"validation": params.validation_share, "test": params.test_share},
        "licence": params.licence,
    }


def _inputs(keys: HeadKeys) -> dict[str, str]:
    return {f"{id}/{stage}": key for id, stages in keys.items() for stage, key in stages.items()}


def _small_array(name: str, *, head: Head, cameras: Cameras, embed: Path) -> np.ndarray:
    """An array of one head that is no image, with the axes of the schema."""
    if name in ("identity", "identity_views"):
        embeddings: np.ndarray = getattr(load_embeddings(embed), name)
        return embeddings[None]
    return {
        "cam2world": cameras.cam2world[None],
        "intrinsics": cameras.intrinsics[None],
        "azimuth": cameras.azimuth_deg,
        "elevation": cameras.elevation_deg,
        "seed": np.array([head.seed], np.int64),
        "status": np.ones(1, np.uint8),
    }[name]


def _checksums(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """SHA-256 of the files that hold an array of the dataset, as the verified manifest has them."""
    for file, record in artifact.manifest.files.items():
        if not file.endswith(".json"):
            yield file, record.sha256


def _upload(store: ArtifactStore, dataset: Path, keys: HeadKeys) -> str | None:
    if not is_url(store.root):
        return None
    from spinmeround.storage.dataset.upload import upload_dataset  # imports the libraries of the object store

    return upload_dataset(store, dataset, keys)


def _frozen(store: ArtifactStore, key: str, datasets: Path) -> DatasetInfo | None:
    """The dataset that was joined under this key, if all its files still exist."""
    digest = json.loads((store.verify("publish", key).path / "dataset.json").read_text(encoding="utf-8"))["digest"]
    path = datasets / f"{digest[:12]}.zarr"
    return DatasetInfo(path=path, digest=digest) if is_intact(path, digest) else None
