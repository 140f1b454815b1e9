"""Optional dependencies: which extra of this distribution installs a module that is missing.

The extras are read from the metadata of the installed distribution, so pyproject.toml alone lists them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, requires

from spinmeround.storage.errors import MissingDependency

_DISTRIBUTION = "spinmeround"
_DISTRIBUTION_OF = {"PIL": "pillow", "mcubes": "pymcubes", "skimage": "scikit-image"}
"""Modules whose distribution has another name; `-` and `_` count as equal."""
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+).*;.*\bextra\s*==\s*['\"]([^'\"]+)['\"]")
_EXTRAS = ("build", "train", "s3", "exchange", "eight-bit", "wandb", "matting", "dask")
"""Extras to recommend; the first that brings a module is named, unless `_PREFERRED` names another."""
_PREFERRED = {"torch": "train", "einops": "train"}
"""A user without these usually needs `HeadLoader` or the model; one who builds datasets lacks Prefect first."""


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """How to install the missing module: `needs 'torch', which is not installed: pip install "spinmeround[train]"`.

    None if no extra brings the module: one of this package, or of a required dependency.
    """
    module = (error.name or "").partition(".")[0]
    extra = extra_of(module)
    if extra is None:
        return None
    return f'needs {module!r}, which is not installed: pip install "{_DISTRIBUTION}[{extra}]"'


def extra_of(module: str) -> str | None:
    """The extra that brings a top-level module, None if there is none."""
    wanted = _normalised(_DISTRIBUTION_OF.get(module, module))
    try:
        requirements = requires(_DISTRIBUTION) or []
    except PackageNotFoundError:
        return None
    matches = [match for match in map(_REQUIREMENT.match, requirements) if match is not None]
    extras = {match.group(2) for match in matches if _normalised(match.group(1)) == wanted}
    preferred = _PREFERRED.get(module)
    return preferred if preferred in extras else next((extra for extra in _EXTRAS if extra in extras), None)


@contextmanager
def optional_dependency(feature: str) -> Iterator[None]:
    """Turn the failed import of an extra's module inside the block into a MissingDependency that names `feature`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (hint := missing_extra(error)) is None:
            raise
        raise MissingDependency(f"{feature} {hint}") from error


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
