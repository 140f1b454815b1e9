"""PanoHead (An et al. 2023) from a user's own checkout and checkpoint: the only package that touches either."""

from spinmeround.panohead_bridge.panohead.checkout import network_fingerprint
from spinmeround.panohead_bridge.panohead.generator import PanoHead, make
from spinmeround.panohead_bridge.panohead.options import PanoHeadOptions
from spinmeround.panohead_bridge.panohead.process import CheckoutError, CheckoutProcessLost
from spinmeround.panohead_bridge.panohead.stub import write_stub

__all__ = [
    "CheckoutError",
    "CheckoutProcessLost",
    "PanoHead",
    "PanoHeadOptions",
    "make",
    "network_fingerprint",
    "write_stub",
]
