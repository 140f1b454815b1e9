"""The named traits of one head, decoded from a latent of 64 standard normal numbers.

Each trait is a smooth bounded function of the latent, so identities interpolate and truncate as in
a GAN: trait = low + (high - low) * Phi(spread * z), Phi the normal distribution function and z the trait's
number mixed with three shared factors (masculinity, age, pigment), which correlate traits as they go
together in people. z stays standard normal.

Traits of the body have a number of their own. Pose, expression and what a person wears or does with the hair
share these numbers: their z are coefficients of the numbers' cosine transform, which is orthonormal. They are
independent of each other, and the correlation with any trait of the body is at most 0.18.

Lengths are in the head's unit, angles in radians unless the name says degrees, the others run over 0 to 1
unless stated.
"""

import math
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float

LATENT_SIZE = 64
FACTORS = ("masculinity", "age", "pigment")


def _trait(
    low: float,
    high: float,
    *,
    spread: float = 1.0,
    shared: bool = False,
    masculinity: float = 0.0,
    age: float = 0.0,
    pigment: float = 0.0,
) -> Any:
    """A trait's range; a `spread` of 1 fills it evenly, a smaller one favours its middle."""
    loadings = (masculinity, age, pigment)
    return field(metadata={"range": (low, high), "spread": spread, "shared": shared, "loadings": loadings})


def _shared(low: float, high: float, **options: float) -> Any:
    return _trait(low, high, shared=True, **options)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """One head's traits; own numbers and coefficients follow the order of the fields."""

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
    smile: float = _trait(-6.0, 9.5)
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
    # pose in the frame; offsets are in world units
    tilt_deg: float = _shared(-10.0, 10.0, spread=0.6)
    yaw_deg: float = _shared(-8.0, 8.0, spread=0.6)
    pitch_deg: float = _shared(-6.0, 6.0, spread=0.6)
    offset_x: float = _shared(-0.012, 0.012, spread=0.7)
    offset_y: float = _shared(-0.010, 0.010, spread=0.7)
    # expression: open mouth, and -1 to 1 for one corner up, brows lowered or raised, one brow raised
    mouth_open: float = _shared(0.0, 1.0)
    smirk: float = _shared(-1.0, 1.0, spread=0.7)
    brow_raise: float = _shared(-1.0, 1.0, spread=0.8)
    brow_side: float = _shared(-1.0, 1.0, spread=0.7)
    # hair and ears: -1 to 1 is left to right
    fringe_sweep: float = _shared(-1.0, 1.0)
    tie_side: float = _shared(-1.0, 1.0, spread=0.7)
    streak: float = _shared(0.0, 1.0, masculinity=-0.5)
    streak_place: float = _shared(-1.0, 1.0)
    streak_hue: float = _shared(0.0, 1.0)
    earrings: float = _shared(0.0, 1.0, masculinity=-0.9)
    earring_side: float = _shared(-1.0, 1.0)
    earring_shape: float = _shared(0.0, 1.0)
    # headwear: a headscarf at one end, bare in the middle, a hat at the other
    headwear: float = _shared(-1.0, 1.0, spread=0.68, masculinity=0.7)
    hat_style: float = _shared(0.0, 1.0, masculinity=0.3)
    headwear_hue: float = _shared(0.0, 1.0)
    headwear_lightness: float = _shared(0.08, 0.92)


_FIELDS = {f.name: f.metadata for f in fields(Traits)}
OWN = tuple(f.name for f in fields(Traits) if not f.metadata["shared"])
"""Traits with a number of their own, in the latent's order after the factors."""

SHARED = tuple(f.name for f in fields(Traits) if f.metadata["shared"])
"""Traits whose numbers are coefficients of the cosine transform of the others'."""


def decode(latent: Float[np.ndarray, " latent"]) -> Traits:
    """The traits of a latent of LATENT_SIZE numbers.

    Raises:
        ValueError: the latent has another size or holds a number that is not finite.
    """
    if latent.shape != (LATENT_SIZE,) or not np.isfinite(latent).all():
        raise ValueError(f"latent: expected {LATENT_SIZE} finite numbers, got shape {latent.shape}; use sample(seed)")
    factors, own = latent[: len(FACTORS)].tolist(), latent[len(FACTORS) :].astype(np.float64)
    numbers = [*own.tolist(), *(_cosines(len(SHARED), len(own)) @ own).tolist()]
    decoded = {name: _decode_one(_FIELDS[name], z, factors) for name, z in zip((*OWN, *SHARED), numbers, strict=True)}
    return Traits(**decoded)


@cache
def _cosines(rows: int, size: int) -> Float[np.ndarray, "row number"]:
    """The first rows after the constant one of the orthonormal cosine transform (DCT-II) of `size` numbers."""
    frequency, place = np.arange(1, rows + 1)[:, None], np.arange(size) + 0.5
    matrix: Float[np.ndarray, "row number"] = math.sqrt(2.0 / size) * np.cos(math.pi / size * frequency * place)
    return matrix


def _decode_one(metadata: Any, own: float, factors: list[float]) -> float:
    loadings = metadata["loadings"]
    mixed = own + sum(loading * factor for loading, factor in zip(loadings, factors, strict=True))
    z = metadata["spread"] * mixed / math.sqrt(1.0 + sum(loading * loading for loading in loadings))
    low, high = metadata["range"]
    return float(low + (high - low) * 0.5 * math.erfc(-z / math.sqrt(2.0)))


def switch(value: float, low: float, high: float) -> float:
    """Smooth switch of a trait: zero below `low`, one above `high`, smooth between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)
