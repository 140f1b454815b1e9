"""Small artifacts for tests of the store."""

from pathlib import Path

from spinmeround.storage.artifacts import ArtifactStore, artifact_key


def key_of(stage: str, number: int, inputs: dict[str, str] | None = None) -> str:
    return artifact_key(stage, 1, {"number": number}, inputs or {})


def put(
    store: ArtifactStore,
    stage: str,
    number: int,
    inputs: dict[str, str] | None = None,
    files: dict[str, bytes] | None = None,
) -> str:
    """Commit an artifact with these files (default: one file with the stage and the number); returns its key."""
    key = key_of(stage, number, inputs)
    with store.commit(
        stage, key, version=1, params={"number": number}, inputs=inputs or {}, weights="", subject=f"h-{number}"
    ) as out:
        for name, data in (files or {"a.bin": f"{stage} {number}".encode()}).items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
    return key


def damage(store: ArtifactStore, stage: str, key: str, name: str = "a.bin", data: bytes = b"?") -> None:
    """Change a stored file of an artifact."""
    manifest = store.manifest(stage, key)
    place = f"{stage}/{key[:2]}/{key}/" + (f"{manifest.payload}/" if manifest.payload else "") + name
    if isinstance(store.root, Path):
        (store.root / place).write_bytes(data)
    else:
        store.backend.blobs.put(place, data)
