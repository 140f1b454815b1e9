"""Configuration of meshing and of normal rendering. Imports neither scipy nor a mesh library."""

from typing import Literal

from pydantic import Field

from spinmeround.storage.records import FrozenParams

RendererName = Literal["auto", "embree", "pytorch3d"]
"""Renderers of normal maps; `auto` selects PyTorch3D if it and a GPU are available, Embree otherwise."""


class MeshParams(FrozenParams):
    """Extraction of a mesh from a density grid.

    PanoHead's own script empties 30/256 of the grid at each face of the box, and 38/256 at the top.
    """

    level: float = Field(10.0, description="Density at the surface")
    resolution: int = Field(256, ge=8, le=1024, description="Samples of the density grid along each axis")
    trim_border: float = Field(0.0, ge=0.0, lt=0.5, description="Share of the grid emptied at each face of the box")
    trim_top: float | None = Field(
        None, ge=0.0, lt=0.5, description="Share of the grid emptied at the top face (+y); default: trim_border"
    )
    min_piece_share: float = Field(
        0.01, ge=0.0, le=1.0, description="Pieces that enclose less than this share of the largest's volume are removed"
    )
    vertex_normals: Literal["density", "faces"] = Field(
        "density",
        description="Source of vertex normals. density: gradient of the density, better if the density falls over more "
        "than two samples at the surface; faces: mean of the adjacent faces, better if it falls faster",
    )
