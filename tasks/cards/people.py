"""What a card says about the people in pictures: who is shown, and what their use may do."""

from collections.abc import Mapping
from typing import Any, Literal

_USE = (
    "Pictures of faces, also of invented ones, can mislead: state that they are synthetic where they are shown, and "
    "use them neither to deceive nor to identify, track or judge people. How a recognition network that is tested on "
    "synthetic faces alone errs on real people is unknown."
)

_INVENTED = (
    "The heads are invented by a network that was trained on photographs of real people. Whether a head "
    "resembles one of these is unknown. The network inherits the biases of its photographs in age, skin, hair and sex; "
    "their extent is unknown."
)

_SHOWN = {
    "procedural": "The heads are drawn by a formula; no picture of a person was used, and no real person is shown. "
    "They are of few shapes and colours, which are not the distribution of any population.",
    "captured": "The heads are photographs of real people. Whether these agreed to this use is unknown to the "
    "software: whoever shares the dataset has to know it, and to respect withdrawals.",
    "panohead": _INVENTED,
    "spherehead": _INVENTED,
}


def shown_people(attributes: Mapping[str, Any] | None) -> str:
    """Who is shown in a dataset with these attributes; None of an unknown dataset."""
    name = str(((attributes or {}).get("generator") or {}).get("name", ""))
    return _SHOWN.get(name, "Who is shown, and what the heads were made from, is unknown.")


def ethics(attributes: Mapping[str, Any] | None) -> str:
    """The section about people, as Markdown."""
    return f"{shown_people(attributes)}\n\n{_USE}"


def kind_of_heads(attributes: Mapping[str, Any]) -> Literal["synthetic", "photographed", ""]:
    """What the heads of a dataset are; empty if it does not record what made them."""
    name = (attributes.get("generator") or {}).get("name")
    if name is None:
        return ""
    return "photographed" if name == "captured" else "synthetic"
