"""What a person would say about a head, from its traits: to group heads by, and to read.

Features grow gradually. A head has one here from about the size at which a person notices it. Imports no torch.
"""

from spinmeround.panohead_bridge.procedural.amounts import (
    baldness,
    beard,
    brim,
    curl,
    earrings,
    fringe,
    glasses,
    hat,
    loose_length,
    mouth_gap,
    scarf,
    streak,
    tail,
    tied,
    visor,
)
from spinmeround.panohead_bridge.procedural.traits import Traits, switch

HEADSCARF = 0.2
"""Less of a scarf covers the crown alone."""

TraitValue = str | bool | int | float


def describe(t: Traits) -> dict[str, TraitValue]:
    """Named traits of a clean head. Angles are in degrees, offsets in world units; sides are those of the picture.

    `tilt_deg` leans the head to the left of the frontal picture where it is positive, `yaw_deg` turns the face to the
    right, `pitch_deg` lowers it.
    """
    return {
        "skin_tone": _band(t.skin_melanin, ("light", "medium", "dark")),
        "skin_melanin": t.skin_melanin,
        "freckles": t.freckles > 0.85,
        "hair": _hair(t),
        "hair_colour": _hair_colour(t),
        "curly": curl(t) > 0.4,
        "fringe": fringe(t) > 0.4,
        "bun": tied(t) > 0.3 and tail(t) < 0.3,
        "tail": tied(t) > 0.3 and tail(t) >= 0.3,
        "tie_side": t.tie_side if tied(t) > 0.3 else 0.0,
        "parting": t.parting,
        "streak": streak(t) > 0.4,
        "bald": baldness(t) > 0.3,
        "beard": beard(t) > 0.4,
        "glasses": glasses(t) > 0.5,
        "earrings": sum(size > 0.5 for size in earrings(t)),
        "hat": _hat(t),
        "headscarf": scarf(t) > HEADSCARF,
        "mouth_open": mouth_gap(t) > 0.005,
        "expression": "smile" if t.smile > 4.0 else "frown" if t.brow_raise < -0.5 or t.smile < -3.0 else "neutral",
        "raised_brows": t.brow_raise > 0.5,
        "one_sided": abs(t.smirk) > 0.5 or abs(t.brow_side) > 0.5,
        "tilt_deg": t.tilt_deg,
        "yaw_deg": t.yaw_deg,
        "pitch_deg": t.pitch_deg,
        "offset_x": t.offset_x,
        "offset_y": t.offset_y,
    }


def _band(value: float, names: tuple[str, ...]) -> str:
    """The name of the equal part of 0 to 1 in which a value lies."""
    return names[min(int(value * len(names)), len(names) - 1)]


def _hair(t: Traits) -> str:
    if baldness(t) > 0.3:
        return "bald" if baldness(t) > 0.8 else "receding"
    if tied(t) > 0.3:
        return "tied"
    return _band(loose_length(t), ("short", "medium", "long"))


def _hair_colour(t: Traits) -> str:
    if switch(t.grey, 0.54, 1.0) > 0.5:
        return "grey"
    if switch(t.hair_redness, 0.55, 0.95) * (1.0 - switch(t.hair_melanin, 0.50, 0.92)) > 0.5:
        return "red"
    return _band(t.hair_melanin, ("blond", "brown", "black"))


def _hat(t: Traits) -> str:
    if hat(t) < 0.5:
        return "skullcap" if hat(t) > 0.2 or 0.06 < scarf(t) <= HEADSCARF else "none"
    if visor(t) > 0.3:
        return "cap"
    return "brimmed" if brim(t) > 0.3 else "knitted"
