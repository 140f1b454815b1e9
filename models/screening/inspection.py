"""What an inspector network (`inspector_network`) finds in the previews of a head; `inspector` runs one."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

VIEWS, SIDE, CHANNELS, STRIDE = 8, 64, 6, 4
"""Number and side of the previews, channels of each, and pixels of a cell of the map."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Log-odds that a head is defective, and that something is wrong in each cell of its previews."""

    log_odds: float
    cells: Float32[np.ndarray, "view rows columns"]
