"""PanoHead (An et al. 2023) and SphereHead (Li et al. 2024) from a user's own checkout and checkpoint: the only package
that touches either."""

from spinmeround.panohead_bridge.panohead.checkout import network_fingerprint
from spinmeround.panohead_bridge.panohead.generator import PanoHead, SphereHead, make, make_spherehead
from spinmeround.panohead_bridge.panohead.options import PanoHeadOptions, SphereHeadOptions
from spinmeround.panohead_bridge.panohead.process import CheckoutError, CheckoutProcessLost
from spinmeround.panohead_bridge.panohead.stub import write_stub

__all__ = [
    "CheckoutError",
    "CheckoutProcessLost",
    "PanoHead",
    "PanoHeadOptions",
    "SphereHead",
    "SphereHeadOptions",
    "make",
    "make_spherehead",
    "network_fingerprint",
    "write_stub",
]
