"""A checkpoint of random weights in a checkout's own classes, for rehearsals and tests.

The sizes are those of PanoHead's published training command; `small` sizes are for machines without an accelerator.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from spinmeround.panohead_bridge.panohead.checkout import network_fingerprint, require_checkout
from spinmeround.panohead_bridge.panohead.process import CheckoutProcess

_RENDERING = {
    "disparity_space_sampling": False,
    "clamp_mode": "softplus",
    "c_gen_conditioning_zero": False,
    "c_scale": 1,
    "superresolution_noise_mode": "none",
    "decoder_lr_mul": 1,
    "decoder_activation": "none",
    "use_torgb_raw": True,
    "use_background": True,
    "triplane_depth": 3,
    "sr_antialias": True,
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1,
    "avg_camera_radius": 2.7,
}


def stub_values(small: bool) -> dict[str, Any]:
    """Arguments of the checkout's generator, and the side of its ray-marched picture in pixels."""
    channels = {"channel_base": 512, "channel_max": 16} if small else {"channel_base": 32768, "channel_max": 512}
    steps = 12 if small else 48
    rendering = {
        **_RENDERING,
        "triplane_size": 32 if small else 256,
        "depth_resolution": steps,
        "depth_resolution_importance": steps,
        "superresolution_module": f"training.superresolution.SuperresolutionHybrid{'2X' if small else '8XDC'}",
    }
    kwargs = {
        **channels,
        "z_dim": 512,
        "c_dim": 25,
        "w_dim": 512,
        "img_resolution": 128 if small else 512,
        "img_channels": 3,
        "mapping_kwargs": {"num_layers": 2},
        "rendering_kwargs": rendering,
        "fused_modconv_default": "inference_only",
        "num_fp16_res": 0,
        "conv_clamp": None,
        "sr_num_fp16_res": 4,
        "sr_kwargs": {**channels, "fused_modconv_default": "inference_only"},
    }
    return {"kwargs": kwargs, "neural_resolution": 64 if small else 128}


def write_stub(
    checkout: Path,
    target: Path,
    *,
    small: bool = False,
    seed: int = 0,
    python: Path | None = None,
    timeout_s: float = 600.0,
) -> str:
    """Write the pickle atomically and return its SHA-256.

    Raises:
        ConfigError: `checkout` is not a checkout of PanoHead, or its code can't be imported.
    """
    process = CheckoutProcess(require_checkout(checkout), python=python, timeout_s=timeout_s)
    temporary = target.resolve().with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        process.call("stub", {**stub_values(small), "seed": seed, "target": str(temporary)})
        temporary.replace(target)
    finally:
        process.close()
        with suppress(OSError):
            temporary.unlink()
    return network_fingerprint(target)
