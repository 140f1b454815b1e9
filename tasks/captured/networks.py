"""The networks of an import of photographed heads, from files."""

from pathlib import Path

from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import fingerprint
from spinmeround.tasks.captured.run import Networks
from spinmeround.tasks.heads.embed import EmbedParams, cached_detector, cached_embedder, recognition_path
from spinmeround.tasks.weights.insightface_packs import open_pack


def load_networks(pack: Path | None, recognition: str) -> Networks:
    """The detector of a pack, and a recognition network as `embed.recognition` names it. Raises ConfigError."""
    if pack is None:
        raise ConfigError("--pack: expected the folder of an InsightFace pack, whose detector finds the face, got none")
    detector, network = open_pack(pack).detector, recognition_path(recognition)
    return Networks(
        finder=cached_detector(detector, EmbedParams().detection),
        embedder=cached_embedder(network),
        fingerprints={"detector": fingerprint(detector), "embed": fingerprint(network)},
    )
