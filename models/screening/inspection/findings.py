"""What an inspector network (`network`) finds in the previews of a head; `inspector` runs one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Log-odds that something is wrong in each preview, and in each cell of it; and how far the features of coarser
    cells lie from those of clean previews, as the logarithm of a mean squared deviation."""

    views: Float32[np.ndarray, " view"]
    cells: Float32[np.ndarray, "view rows columns"]
    distances: Float32[np.ndarray, "view coarse_rows coarse_columns"]
