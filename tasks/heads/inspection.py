"""Inspector networks, loaded once per process."""

from functools import lru_cache
from pathlib import Path

from spinmeround.models.screening.inspection.inspector import Inspector
from spinmeround.storage.weights import check_onnx


@lru_cache(maxsize=2)
def cached_inspector(path: Path) -> Inspector:
    """The inspector in a file. Raises ConfigError if it is none."""
    check_onnx(path)
    return Inspector(path)
