"""The named traits of one head, decoded from a latent of 64 standard normal numbers.

Each trait is a smooth bounded function of the latent, so identities interpolate and truncate as in
a GAN: trait = low + (high - low) * Phi(z), Phi the normal distribution function and z the trait's own
number mixed with three shared factors (masculinity, age, pigment), which correlate traits as they go
together in people. z stays standard normal. Lengths are in world units, angles in radians, the
others run over 0 to 1 unless stated.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float

LATENT_SIZE = 64
FACTORS = ("masculinity", "age", "pigment")


def _trait(low: float, high: float, *, masculinity: float = 0.0, age: float = 0.0, pigment: float = 0.0) -> Any:
    return field(metadata={"range": (low, high), "loadings": (masculinity, age, pigment)})


@dataclass(frozen=True, kw_only=True)
class Traits:
    """One head's traits; the order of the fields is the order of the latent after the factors."""

    # skull and soft parts
    cranium_width: float = _trait(0.116, 0.134, masculinity=0.3)
    cranium_height: float = _trait(0.116, 0.138)
    cranium_length: float = _trait(0.150, 0.176, masculinity=0.3)
    forehead_bulge: float = _trait(-0.010, 0.010, masculinity=-0.5)
    face_width: float = _trait(0.080, 0.110, masculinity=0.3)
    face_length: float = _trait(-0.022, 0.020, masculinity=0.4)
    jaw_width: float = _trait(0.042, 0.086, masculinity=0.9)
    chin_width: float = _trait(0.018, 0.040, masculinity=0.5)
    chin_projection: float = _trait(-0.012, 0.016, masculinity=0.3)
    cheekbone: float = _trait(-0.008, 0.010, age=0.3)
    cheek_fullness: float = _trait(0.70, 1.12, masculinity=-0.3, age=-0.3)
    brow_ridge: float = _trait(-0.014, 0.008, masculinity=0.9)
    # eyes
    eye_spacing: float = _trait(0.0475, 0.0590)
    eye_height: float = _trait(0.000, 0.018)
    eye_width: float = _trait(0.0250, 0.0330)
    eye_opening: float = _trait(0.0085, 0.0175, masculinity=-0.6, age=-0.3)
    eye_tilt: float = _trait(-0.14, 0.26, masculinity=-0.2)
    eye_depth: float = _trait(-0.003, 0.007, masculinity=0.4)
    iris_hue: float = _trait(0.0, 1.0, pigment=-1.2)
    iris_lightness: float = _trait(0.75, 1.25)
    # brows
    brow_height: float = _trait(0.026, 0.041, masculinity=-0.5)
    brow_thickness: float = _trait(0.0028, 0.0080, masculinity=0.8)
    brow_arch: float = _trait(-0.001, 0.012, masculinity=-0.5)
    brow_tilt: float = _trait(-0.14, 0.16)
    # nose
    nose_length: float = _trait(0.056, 0.092, masculinity=0.3)
    nose_projection: float = _trait(0.018, 0.048, masculinity=0.3)
    nose_width: float = _trait(0.012, 0.028, masculinity=0.2, pigment=0.5)
    nose_bridge: float = _trait(-0.007, 0.010, masculinity=0.3)
    nose_tip: float = _trait(0.011, 0.019)
    nose_upturn: float = _trait(-0.012, 0.010, masculinity=-0.3)
    # mouth
    mouth_width: float = _trait(0.028, 0.048)
    mouth_drop: float = _trait(0.027, 0.042)
    lip_fullness: float = _trait(0.0060, 0.0165, masculinity=-0.6, age=-0.4, pigment=0.4)
    smile: float = _trait(-2.5, 9.0)
    lip_colour: float = _trait(0.0, 1.0, masculinity=-1.2)
    # ears and neck
    ear_size: float = _trait(0.033, 0.049, masculinity=0.3, age=0.4)
    ear_flare: float = _trait(0.20, 0.95)
    neck_radius: float = _trait(0.058, 0.084, masculinity=1.0)
    shoulder_width: float = _trait(0.195, 0.250, masculinity=0.9)
    # skin
    skin_melanin: float = _trait(0.0, 1.0, pigment=1.6)
    skin_redness: float = _trait(-1.0, 1.0)
    skin_texture: float = _trait(0.2, 1.0, age=0.6)
    freckles: float = _trait(0.0, 1.0, pigment=-0.6)
    # hair
    hair_length: float = _trait(0.0, 1.0, masculinity=-1.4)
    hair_volume: float = _trait(0.0, 1.0, age=-0.3)
    hair_curl: float = _trait(0.0, 1.0, pigment=0.8)
    hairline: float = _trait(0.118, 0.146, masculinity=0.2, age=0.3)
    fringe: float = _trait(0.0, 1.0, masculinity=-0.4)
    baldness: float = _trait(0.0, 1.0, masculinity=1.0, age=0.6)
    tied: float = _trait(0.0, 1.0, masculinity=-1.0)
    tie_height: float = _trait(0.0, 1.0)
    parting: float = _trait(-1.0, 1.0)
    hair_melanin: float = _trait(0.0, 1.0, pigment=1.4)
    hair_redness: float = _trait(0.0, 1.0)
    grey: float = _trait(0.0, 1.0, age=1.6)
    # beard, glasses, clothes
    beard: float = _trait(0.0, 1.0, masculinity=1.8)
    beard_length: float = _trait(0.0, 1.0)
    glasses: float = _trait(0.0, 1.0, age=0.4)
    glasses_shape: float = _trait(0.0, 1.0)
    garment_hue: float = _trait(0.0, 1.0)
    garment_lightness: float = _trait(0.10, 0.92)


def decode(latent: Float[np.ndarray, " latent"]) -> Traits:
    """The traits of a latent of LATENT_SIZE numbers.

    Raises:
        ValueError: the latent has another size or holds a number that is not finite.
    """
    if latent.shape != (LATENT_SIZE,) or not np.isfinite(latent).all():
        raise ValueError(f"latent: expected {LATENT_SIZE} finite numbers, got shape {latent.shape}; use sample(seed)")
    values = [float(value) for value in latent]
    factors, own = values[: len(FACTORS)], values[len(FACTORS) :]
    return Traits(**{f.name: _decode_one(f.metadata, z, factors) for f, z in zip(fields(Traits), own, strict=True)})


def _decode_one(metadata: Any, own: float, factors: list[float]) -> float:
    loadings = metadata["loadings"]
    mixed = own + sum(loading * factor for loading, factor in zip(loadings, factors, strict=True))
    z = mixed / math.sqrt(1.0 + sum(loading * loading for loading in loadings))
    low, high = metadata["range"]
    return float(low + (high - low) * 0.5 * math.erfc(-z / math.sqrt(2.0)))


def switch(value: float, low: float, high: float) -> float:
    """Smooth switch of a trait: zero below `low`, one above `high`, smooth between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
