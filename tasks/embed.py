"""Embed: the ArcFace identity of a head, from its frontal views.

Artifact: `identity.npz` with identity (512,), the L2-normalised mean over the accepted views, and
identity_views (view, 512), NaN where a view is not accepted.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from models.identity.arcface import ArcFaceEmbedder, FrontalViews, embed_head
from storage.dataset import read_pictures
from storage.weights import embedded_weights, fingerprint
from tasks.stage import Stage, StageJob, StageParams


class EmbedParams(StageParams):
    """Which views count as frontal, and the recognition network."""

    frontal: FrontalViews = Field(FrontalViews(), description="The views that are embedded")
    recognition: str = Field("embedded", description="'embedded', or the path of an ArcFace ONNX file")


def recognition_path(recognition: str) -> Path:
    """The ONNX file of a recognition network: 'embedded', or its own path."""
    return embedded_weights("recognition") if recognition == "embedded" else Path(recognition)


@lru_cache(maxsize=2)
def cached_embedder(path: Path) -> ArcFaceEmbedder:
    """The recognition network in a file, loaded once a process."""
    return ArcFaceEmbedder(path)


def _weights(sections: Mapping[str, Any]) -> str:
    return fingerprint(recognition_path(sections["embed"].recognition))


def _make(job: StageJob) -> None:
    params = job.sections["embed"]
    with np.load(job.inputs["sample"] / "identity.npz", allow_pickle=False) as arrays:
        if "landmarks" not in arrays:
            raise ValueError(f"{job.head.id}: expected the generator's five landmarks to align faces by, found none")
        landmarks = arrays["landmarks"]
    rgb = read_pictures(job.inputs["render"], "rgb")["rgb"]
    embedder, cameras = cached_embedder(recognition_path(params.recognition)), job.sections["views"].cameras()
    head = embed_head(embedder, rgb, cameras, landmarks, params.frontal)
    np.savez(job.out / "identity.npz", identity=head.identity, identity_views=head.views)


EMBED = Stage(
    name="embed", version=1, reads=("views", "embed"), inputs=("sample", "render"), weights=_weights, make=_make
)
