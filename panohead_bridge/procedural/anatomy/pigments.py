"""Base colours of a head: smooth palettes from traits to RGB in 0 to 1 (display-referred)."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from spinmeround.panohead_bridge.procedural.traits import Traits, switch

Colour = tuple[float, float, float]

_SKIN = (
    (0.970, 0.835, 0.760),
    (0.935, 0.765, 0.660),
    (0.865, 0.665, 0.530),
    (0.720, 0.510, 0.375),
    (0.510, 0.335, 0.235),
    (0.310, 0.195, 0.145),
)
_HAIR = (
    (0.900, 0.770, 0.520),
    (0.720, 0.540, 0.320),
    (0.450, 0.290, 0.165),
    (0.215, 0.135, 0.090),
    (0.070, 0.055, 0.055),
)
_IRIS = (
    (0.230, 0.125, 0.060),
    (0.360, 0.210, 0.090),
    (0.440, 0.400, 0.190),
    (0.330, 0.500, 0.400),
    (0.300, 0.480, 0.700),
    (0.520, 0.620, 0.680),
)
_STREAK = (
    (0.930, 0.900, 0.820),
    (0.930, 0.800, 0.500),
    (0.800, 0.250, 0.150),
    (0.850, 0.300, 0.550),
    (0.450, 0.250, 0.700),
    (0.150, 0.400, 0.750),
    (0.150, 0.600, 0.450),
)
_GARMENT = (
    (0.55, 0.16, 0.17),
    (0.78, 0.42, 0.20),
    (0.72, 0.62, 0.30),
    (0.28, 0.45, 0.30),
    (0.20, 0.46, 0.50),
    (0.20, 0.30, 0.55),
    (0.38, 0.26, 0.50),
    (0.60, 0.25, 0.42),
)


@dataclass(frozen=True, kw_only=True)
class Palette:
    skin: Colour
    lips: Colour
    blush: Colour
    hair_root: Colour
    hair_tip: Colour
    brow: Colour
    iris: Colour
    garment: Colour
    frame: Colour
    streak: Colour
    headwear: Colour
    ribbon: Colour
    earring: Colour


def palette(t: Traits) -> Palette:
    skin = _along(_SKIN, t.skin_melanin)
    red = 0.020 * t.skin_redness
    skin = (skin[0] + red, skin[1] - 0.4 * red, skin[2] - 0.7 * red)
    hair = _hair(t)
    grey = 0.42 + 0.45 * t.hair_volume
    greying = switch(t.grey, 0.54, 1.0)
    root = _mix(_scale(hair, 0.78), (grey, grey, grey * 0.99), greying)
    tip = _mix(_lift(hair, 1.14, 0.02), (grey * 1.1, grey * 1.1, grey * 1.1), greying)
    rose = _mix((0.74, 0.40, 0.37), (0.70, 0.18, 0.24), switch(t.lip_colour, 0.45, 1.0))
    lips = _mix(_scale(rose, 0.55 + 0.45 * sum(skin) / 2.2), skin, 0.42 - 0.22 * switch(t.lip_colour, 0.3, 1.0))
    dark = 0.05 + 0.5 * switch(t.garment_hue, 0.5, 1.0)
    return Palette(
        skin=skin,
        lips=lips,
        blush=_mix(skin, (0.86, 0.32, 0.28), 0.30),
        hair_root=root,
        hair_tip=tip,
        brow=_mix(_scale(hair, 0.60), _scale(skin, 0.45), 0.35),
        iris=_scale(_along(_IRIS, t.iris_hue), t.iris_lightness),
        garment=_cloth(t.garment_hue, t.garment_lightness),
        frame=(dark, 0.05 + 0.4 * dark, 0.06 + 0.25 * dark),
        streak=_along(_STREAK, t.streak_hue),
        headwear=_cloth(t.headwear_hue, t.headwear_lightness),
        ribbon=_cloth(1.0 - t.headwear_hue, 0.85 - 0.75 * t.headwear_lightness),
        earring=_mix((0.85, 0.66, 0.28), (0.80, 0.81, 0.84), switch(t.earring_shape, 0.2, 0.8)),
    )


def _cloth(hue: float, lightness: float) -> Colour:
    return _mix(_scale(_along(_GARMENT, hue), 0.5 + lightness), (lightness,) * 3, 0.35)


def _hair(t: Traits) -> Colour:
    natural = _along(_HAIR, t.hair_melanin)
    ginger = switch(t.hair_redness, 0.55, 0.95) * (1.0 - switch(t.hair_melanin, 0.50, 0.92))
    return _mix(natural, (0.60, 0.235, 0.085), 0.8 * ginger)


def _along(stops: tuple[Colour, ...], position: float) -> Colour:
    red, green, blue = PchipInterpolator(np.linspace(0.0, 1.0, len(stops)), np.asarray(stops))(position).tolist()
    return red, green, blue


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (x + (y - x) * share for x, y in zip(a, b, strict=True))
    return red, green, blue


def _scale(colour: Colour, factor: float) -> Colour:
    return _lift(colour, factor, 0.0)


def _lift(colour: Colour, factor: float, offset: float) -> Colour:
    red, green, blue = (min(max(value * factor + offset, 0.0), 1.0) for value in colour)
    return red, green, blue
