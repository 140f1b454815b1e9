"""The files of a reconstruction, and their copies in a user's folder. Imports no torch."""

from pathlib import Path

from spinmeround.storage.errors import environment_errors
from spinmeround.storage.files import make_folder, write_atomic

SPLATS, SCORES, VIEWER = "splats.ply", "scores.json", "viewer.html"
TURNTABLE, HELD_OUT = "turntable.webp", "held-out.png"
MESHES = ("mesh.ply", "mesh.glb")


def copy_reconstruction(artifact: Path, folder: Path) -> list[Path]:
    """Copy the files of an artifact to a user's folder; returns the copies. Raises StorageUnavailable."""
    with environment_errors(folder):
        make_folder(folder)
        names = sorted(path.name for path in artifact.iterdir() if path.name != "manifest.json")
        for name in names:
            write_atomic(folder / name, (artifact / name).read_bytes())
    return [folder / name for name in names]
