"""Selection of a normal renderer. Imports no renderer, so artifact keys need neither mesh libraries nor torch."""

import importlib
import importlib.util
from typing import Literal, get_args

from spinmeround.models.geometry.params import RendererName

FINGERPRINTS = {"embree": "EmbreeNormalRenderer", "pytorch3d": "PyTorch3DNormalRenderer 2"}
"""Identify the renderers in artifact keys; each changes whenever its renderer's output does."""

HOW_TO_BUILD = (
    "No wheels exist for current torch: clone github.com/facebookresearch/pytorch3d, replace -std=c++17 by "
    "-std=c++20 in its setup.py and run `FORCE_CUDA=1 pip install --no-build-isolation .` in it (with the CUDA "
    "compiler of torch's CUDA version), or use the Embree renderer"
)


def select_renderer(name: str = "auto") -> Literal["embree", "pytorch3d"]:
    """The renderer with this name; "auto" selects PyTorch3D if it and a GPU are available, Embree otherwise.

    Raises:
        ValueError: if the name is unknown, or PyTorch3D is requested and cannot be imported.
    """
    if name not in get_args(RendererName):
        raise ValueError(f"normals.renderer: expected one of {', '.join(get_args(RendererName))}, got {name!r}")
    if name == "embree" or (name == "auto" and pytorch3d_problem(gpu=True)):
        return "embree"
    if name == "pytorch3d" and (problem := pytorch3d_problem(gpu=False)):
        raise ValueError(f"normals.renderer = pytorch3d: {problem}")
    return "pytorch3d"


def renderer_fingerprint(name: str = "auto") -> str:
    """The fingerprint of the renderer that `select_renderer` selects on this machine."""
    return FINGERPRINTS[select_renderer(name)]


def pytorch3d_problem(*, gpu: bool) -> str | None:
    """Why PyTorch3D is unavailable (on a GPU, if `gpu`), or None if it is available."""
    if importlib.util.find_spec("pytorch3d") is None:
        return f"PyTorch3D is not installed. {HOW_TO_BUILD}"
    import torch  # slow to import, and needed only with PyTorch3D

    if gpu and not torch.cuda.is_available():
        return "torch finds no GPU"
    try:
        importlib.import_module("pytorch3d._C")
    except ImportError as error:
        return f"PyTorch3D is installed but does not load ({error}). {HOW_TO_BUILD}"
    return None
