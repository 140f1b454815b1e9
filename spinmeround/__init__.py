"""SpinMeRound: from seeds to a trained multi-view identity model of heads.

The public names below are imported when they are first used, so that `import spinmeround` is quick and reading a
dataset needs no more than numpy and Zarr.
"""

import importlib
import logging
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundPipeline
    from spinmeround.models.geometry.cameras import Cameras, ViewGrid, orbit, pixel_rays, project
    from spinmeround.storage.dataset import HeadDataset
    from spinmeround.tasks.loading.loader import HeadLoader
    from spinmeround.tasks.loading.params import ViewParams
    from spinmeround.tasks.loading.tensors import as_floats

__all__ = [
    "Cameras",
    "HeadDataset",
    "HeadLoader",
    "PosedViews",
    "SpinMeRoundPipeline",
    "ViewGrid",
    "ViewParams",
    "__version__",
    "as_floats",
    "orbit",
    "pixel_rays",
    "project",
]

_HOME = {
    "HeadDataset": "spinmeround.storage.dataset",
    "HeadLoader": "spinmeround.tasks.loading.loader",
    "ViewParams": "spinmeround.tasks.loading.params",
    "as_floats": "spinmeround.tasks.loading.tensors",
    "PosedViews": "spinmeround.models.diffusion.pipeline",
    "SpinMeRoundPipeline": "spinmeround.models.diffusion.pipeline",
    **dict.fromkeys(("Cameras", "ViewGrid", "orbit", "pixel_rays", "project"), "spinmeround.models.geometry.cameras"),
}

# diffusers imports bitsandbytes where it is installed, which warns of a kernel for 4-bit layers; nothing here has any
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

try:
    __version__ = version("spinmeround")
except PackageNotFoundError:  # a source tree on the path that is not installed
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    """A public name; raises ImportError that names the extra to install where a dependency is missing."""
    if name not in _HOME:
        raise AttributeError(f"module 'spinmeround' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        from spinmeround.storage.extras import missing_extra

        hint = missing_extra(error)
        if hint is None:
            raise
        raise ImportError(f"spinmeround.{name}: {hint}", name=error.name) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
