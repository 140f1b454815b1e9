"""How much of each feature a head shows, from 0 (none) to 1 (full), as smooth functions of its traits.

A feature grows from nothing: nothing appears at once along an interpolation. Imports no torch.
"""

import math

from spinmeround.panohead_bridge.procedural.traits import Traits, switch


def baldness(t: Traits) -> float:
    """Baldness of the crown."""
    return switch(t.baldness, 0.48, 0.98)


def thinning(t: Traits) -> float:
    """How far hair is shortened before it disappears: long hair fades out long before the crown is bald."""
    return switch(t.baldness, 0.20, 0.94)


def bald_sides(t: Traits) -> float:
    """How far the sides and the nape are cropped too; until then a horseshoe of hair remains."""
    return switch(t.baldness, 0.74, 0.99)


def hat(t: Traits) -> float:
    """How far a hat covers the head, from the crown down."""
    return math.pow(switch(t.headwear, 0.48, 0.94), 0.6)


def scarf(t: Traits) -> float:
    """How far a headscarf covers the head, from the crown down to the shoulders; no further than a hat on beards."""
    return math.pow(switch(-t.headwear, 0.46, 0.92), 0.6) * (1.0 - 0.74 * beard(t))


def pressed(t: Traits) -> float:
    """How flat headwear presses the hair; hair is flat before cloth covers it."""
    return switch(abs(t.headwear), 0.30, 0.60)


def visor(t: Traits) -> float:
    """Length of a cap's visor; caps lie between hats without a brim and hats with a brim all round."""
    return hat(t) ** 2 * switch(t.hat_style, 0.34, 0.48) * (1.0 - switch(t.hat_style, 0.60, 0.70))


def brim(t: Traits) -> float:
    """Width of a brim all round."""
    return hat(t) ** 2 * switch(t.hat_style, 0.66, 0.78)


def tied(t: Traits) -> float:
    """Size of a bun or a tail; a scarf hides it, a hat leaves little of it."""
    return switch(t.tied, 0.46, 0.92) * (1.0 - baldness(t)) * (1.0 - pressed(t))


def tail(t: Traits) -> float:
    """Length of the tail that hangs from tied hair; 0 is a bun."""
    return switch(t.hair_length, 0.35, 0.80) * switch(tied(t), 0.2, 1.0)


def loose_length(t: Traits) -> float:
    """Length of loose hair: 0 is short, 1 is past the shoulders."""
    covered = switch(scarf(t), 0.36, 0.70)
    return switch(t.hair_length, 0.24, 0.90) * (1.0 - tied(t)) * (1.0 - thinning(t)) * (1.0 - covered)


def curl(t: Traits) -> float:
    return switch(t.hair_curl, 0.48, 0.92)


def fringe(t: Traits) -> float:
    return switch(t.fringe, 0.40, 0.94) * (1.0 - thinning(t)) * (1.0 - 0.6 * tied(t)) * (1.0 - 0.7 * pressed(t))


def streak(t: Traits) -> float:
    """Strength of a streak of another colour."""
    return switch(t.streak, 0.76, 0.95)


def beard(t: Traits) -> float:
    return switch(t.beard, 0.46, 0.92)


def glasses(t: Traits) -> float:
    """Thickness of the frames."""
    return 0.7 * switch(t.glasses, 0.58, 0.62) + 0.3 * switch(t.glasses, 0.60, 0.95)


def glasses_tint(t: Traits) -> float:
    """Share of the frames' own colour; 0 is clear."""
    return switch(t.glasses, 0.58, 0.95)


def earrings(t: Traits) -> tuple[float, float]:
    """Size of the earring in the left ear and in the right one; at the ends of `earring_side` one ear has none."""
    size = switch(t.earrings, 0.62, 0.84) * (1.0 - switch(scarf(t), 0.0, 0.3))
    return size * (1.0 - switch(t.earring_side, 0.40, 0.70)), size * (1.0 - switch(-t.earring_side, 0.40, 0.70))


def mouth_gap(t: Traits) -> float:
    """How far the lips stand apart in the middle, in the head's unit."""
    return 0.024 * switch(t.mouth_open, 0.56, 1.0)
