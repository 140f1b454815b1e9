"""Export: a head's mesh in the colours of its pictures, as a file for any viewer.

World units and axes are kept (y up, the face looks along +z; glTF has the same). GLB has colours in linear light,
as glTF wants them, and a material that says that the light is already in them; PLY and OBJ have the pictures' bytes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float32, UInt8
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.colours import vertex_colours
from spinmeround.models.geometry.meshes import vertex_normals
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import read_pictures
from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.storage.records import TriangleMesh
from spinmeround.tasks.heads.mesh import load_mesh

SUFFIXES = (".glb", ".ply", ".obj")


def check_target(target: Path, *, force: bool) -> None:
    """Raises ConfigError for a suffix that is not written, no folder, or a file that is there (unless `force`)."""
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--to {target}: expected a name that ends in {', '.join(SUFFIXES)}, got {target.suffix!r}")
    if target.is_dir() or not target.absolute().parent.is_dir():
        what = "is a folder" if target.is_dir() else f"the folder {target.absolute().parent} does not exist"
        raise ConfigError(f"--to {target}: expected a file in a folder that exists; {what}")
    if target.exists() and not force:
        raise ConfigError(f"--to {target}: the file exists; choose another name, or overwrite it with --force")


def export_head(store: ArtifactStore, keys: Mapping[str, str], cameras: Cameras, target: Path) -> TriangleMesh:
    """Writes the head whose artifacts `mesh` and `render` have these keys; returns its mesh.

    Raises StoreError where an artifact is not there or not whole, StorageUnavailable where the file can't be written.
    """
    mesh = load_mesh(store.open("mesh", keys["mesh"]).path)
    views = read_pictures(store.open("render", keys["render"]).path, "rgb", "mask")
    colours = vertex_colours(mesh, cameras, views["rgb"], views["mask"])
    with environment_errors(target):
        write_atomic(target, encoded(mesh, colours, target.suffix.lower()))
    return mesh


def encoded(mesh: TriangleMesh, colours: UInt8[np.ndarray, "vertex 3"], suffix: str) -> bytes:
    """The bytes of a file of that kind, one of SUFFIXES."""
    known: dict[str, Any] = {"vertices": mesh.vertices, "faces": mesh.faces, "vertex_normals": vertex_normals(mesh)}
    if suffix == ".glb":
        solid = trimesh.Trimesh(**known, vertex_attributes={"_COLOUR": linear_light(colours)}, process=False)
        return export_glb(trimesh.Scene(solid), include_normals=True, tree_postprocessor=_unlit_colours)
    solid = trimesh.Trimesh(**known, vertex_colors=colours, process=False)
    if suffix == ".ply":
        return export_ply(solid, vertex_normal=True)
    return str(export_obj(solid, include_normals=True, include_color=True)).encode()


def linear_light(colours: UInt8[np.ndarray, "*axis 3"]) -> Float32[np.ndarray, "*axis 3"]:
    """sRGB bytes as linear light, 0 to 1 (IEC 61966-2-1)."""
    share = colours.astype(np.float32) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _unlit_colours(tree: dict[str, Any]) -> None:
    """Makes the attribute the glTF colour (trimesh's own has but 8 bits, too few for linear light), shown as it is."""
    tree["materials"] = [
        {
            "name": "head",
            "extensions": {"KHR_materials_unlit": {}},
            "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        }
    ]
    tree["extensionsUsed"] = [*tree.get("extensionsUsed", []), "KHR_materials_unlit"]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop("_COLOUR")
            primitive["material"] = 0
