"""Mesh files: a head's mesh with vertex colours from its views, as GLB, PLY or OBJ.

World units and axes are kept (y up, the face looks along +z, as in glTF). GLB has linear colours, as glTF requires, and
an unlit material, because the colours include the shading; PLY and OBJ have sRGB bytes.
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
    """Raises ConfigError for an unknown suffix, a missing parent folder, or an existing file unless `force` is set."""
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"--to {target}: expected the suffix {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got {target.suffix!r}"
        )
    if target.is_dir() or not target.absolute().parent.is_dir():
        found = "a folder" if target.is_dir() else f"no folder {target.absolute().parent}"
        raise ConfigError(f"--to {target}: expected a file in an existing folder, found {found}")
    if target.exists() and not force:
        raise ConfigError(f"--to {target}: the file exists; choose another name, or overwrite it with --force")


def export_head(store: ArtifactStore, keys: Mapping[str, str], cameras: Cameras, target: Path) -> TriangleMesh:
    """Write the head with these keys of its artifacts `mesh` and `render`, and return its mesh.

    Raises StoreError if an artifact is missing or damaged, StorageUnavailable if the file is not writable.
    """
    mesh = load_mesh(store.verify("mesh", keys["mesh"]).path)
    views = read_pictures(store.verify("render", keys["render"]).path, "rgb", "mask")
    colours = vertex_colours(mesh, cameras, views["rgb"], views["mask"])
    with environment_errors(target):
        write_atomic(target, mesh_file(mesh, colours, target.suffix.lower()))
    return mesh


def mesh_file(mesh: TriangleMesh, colours: UInt8[np.ndarray, "vertex 3"], suffix: str) -> bytes:
    """The content of a mesh file; `suffix` is one of SUFFIXES."""
    geometry: dict[str, Any] = {"vertices": mesh.vertices, "faces": mesh.faces, "vertex_normals": vertex_normals(mesh)}
    if suffix == ".glb":
        solid = trimesh.Trimesh(**geometry, vertex_attributes={"_COLOUR": linear_light(colours)}, process=False)
        scene = trimesh.Scene(solid)
        return bytes(export_glb(scene, include_normals=True, tree_postprocessor=_unlit_colours))  # type: ignore[no-untyped-call]
    solid = trimesh.Trimesh(**geometry, vertex_colors=colours, process=False)
    if suffix == ".ply":
        return bytes(export_ply(solid, vertex_normal=True))
    return str(export_obj(solid, include_normals=True, include_color=True)).encode()  # type: ignore[no-untyped-call]


def linear_light(colours: UInt8[np.ndarray, "*axis 3"]) -> Float32[np.ndarray, "*axis 3"]:
    """sRGB bytes as linear light in [0, 1] (IEC 61966-2-1)."""
    encoded = colours.astype(np.float32) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _unlit_colours(tree: dict[str, Any]) -> None:
    """Rename the colour attribute to glTF's COLOR_0 and make the material unlit.

    trimesh writes COLOR_0 itself with 8 bits, too few for linear light.
    """
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
