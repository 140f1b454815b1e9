"""The parts that a dataset or a model is made from, with their licences as far as these are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinmeround.storage.weights import PARTS, Hub, list_embedded
from spinmeround.tasks.markdown import markdown_table

UNKNOWN = "unknown"
OURS = "Apache-2.0, part of SpinMeRound"


@dataclass(frozen=True, kw_only=True)
class UsedPart:
    """A part by its role; `source` is a web page or the name of a package, `repository` one of the hub."""

    role: str
    name: str
    licence: str = UNKNOWN
    source: str = UNKNOWN
    fingerprint: str = UNKNOWN
    repository: str | None = None

    @property
    def free(self) -> bool:
        """Whether the part is known to be under the licence of this software."""
        return self.licence.startswith("Apache-2.0")


def generator_part(attributes: Mapping[str, Any]) -> UsedPart:
    """The generator of a dataset's heads."""
    generator = attributes.get("generator") or {}
    name, print_ = str(generator.get("name", UNKNOWN)), _fingerprint(attributes, "generator")
    if name == "procedural":
        return UsedPart(role="generator", name=name, licence=OURS, source="spinmeround", fingerprint=print_)
    if name == "captured":
        return UsedPart(role="source of the heads", name="photographs", licence=_stated(attributes))
    known = next((part for part in PARTS if part.name == name), None)
    if known is None:
        return UsedPart(role="generator", name=name, fingerprint=print_)
    return UsedPart(role="generator", name=name, licence=known.licence, source=known.source.page, fingerprint=print_)


def recognition_part(attributes: Mapping[str, Any]) -> UsedPart:
    """The network that made a dataset's identity embeddings, known by its fingerprint if it ships with the package."""
    found = _fingerprint(attributes, "embed")
    if found == UNKNOWN:
        found = _fingerprint(attributes, "recognition")
    shipped = next((each for each in list_embedded() if each.sha256 and found.startswith(each.sha256)), None)
    if shipped is None:
        return UsedPart(role="recognition network", name="an external network", fingerprint=found)
    return UsedPart(
        role="recognition network", name=shipped.name, licence=shipped.licence, source="spinmeround", fingerprint=found
    )


def network_part(role: str, value: str, embedded: str, fingerprint: str = UNKNOWN) -> UsedPart:
    """A network as a profile names it: "random", "embedded" (the one with this name in the package) or a folder.

    A folder at the place of a registered part is taken for that part. No path is written to a card.
    """
    if value == "random":
        return UsedPart(role=role, name="random weights", licence=OURS, source="spinmeround", fingerprint="none")
    if value == "embedded":
        shipped = next(each for each in list_embedded() if each.name == embedded)
        return UsedPart(
            role=role,
            name=shipped.name,
            licence=shipped.licence,
            source="spinmeround",
            fingerprint=shipped.sha256 or fingerprint,
        )
    path = Path(value).expanduser()
    known = next((part for part in PARTS if part.folder_of(path) is not None), None)
    if known is None:
        return UsedPart(role=role, name="an external network", fingerprint=fingerprint)
    return UsedPart(
        role=role,
        name=known.name,
        licence=known.licence,
        source=known.source.page,
        fingerprint=fingerprint,
        repository=known.source.repository if isinstance(known.source, Hub) else None,
    )


def part_rows(parts: Sequence[UsedPart]) -> str:
    """A Markdown table of parts."""
    rows = [(each.role, each.name, each.licence, each.source, _short(each.fingerprint)) for each in parts]
    return markdown_table(("part", "name", "licence", "source", "fingerprint"), rows)


def hub_licence(stated: str | None) -> dict[str, str]:
    """The fields `license`, `license_name` and `license_link` of a card, of a licence as a dataset states it.

    A statement that begins with an SPDX identifier of the hub's list, alone or before a colon, has that licence.
    """
    if not stated:
        return {"license": "unknown"}
    identifier = stated.partition(":")[0].strip().lower()
    return {
        "license": identifier if identifier in _ON_HUB else "other",
        "license_name": stated,
        "license_link": "README.md",
    }


_ON_HUB = frozenset(
    {
        *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
        *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "creativeml-openrail-m", "openrail"),
    }
)


def _fingerprint(attributes: Mapping[str, Any], name: str) -> str:
    return str((attributes.get("fingerprints") or {}).get(name, UNKNOWN))


def _stated(attributes: Mapping[str, Any]) -> str:
    return str(attributes.get("licence") or UNKNOWN)


def _short(fingerprint: str) -> str:
    return fingerprint if fingerprint in (UNKNOWN, "none") else f"`{fingerprint[:24]}`"
