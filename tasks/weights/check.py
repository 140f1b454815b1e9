"""The external parts that a profile uses, where it expects them, and whether they are valid.

The first check of a part records its SHA-256 next to it; every later load compares with that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from spinmeround.panohead_bridge.registry import FROM_CHECKOUT
from spinmeround.storage.errors import SpinMeRoundError, file_failure
from spinmeround.storage.weights import checksums_path, embedded_weights, find_part, record_checksums
from spinmeround.tasks.weights.insightface_packs import nested_pack, unnest_command
from spinmeround.tasks.weights.inspect import inspect
from spinmeround.tasks.weights.networks import read_config

State = Literal["shipped", "found", "missing", "invalid"]
_OWN = ("unet", "arc2face", "pipeline", "networks", "state.json", "step-*")
"""In a folder of networks to begin with, what tells that it is more than a published network."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """A part that a profile uses: its name, the fields with its path, and the path (None: shipped with the package)."""

    name: str
    fields: tuple[str, ...]
    place: Path | None
    sha256: str | None = None
    """SHA-256 that the profile requires; a generator's pickle is not opened without it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of checking a part: what was found, or what is wrong and the command that fixes it."""

    use: Use
    state: State
    seen: str = ""
    command: str = ""

    @property
    def good(self) -> bool:
        return self.state in ("shipped", "found")


def parts_of(profile: BaseModel) -> tuple[Use, ...]:
    """The parts that a profile uses, in the order of the stages, each once with all fields that name it."""
    found: dict[tuple[str, Path | None], Use] = {}
    for use in _uses(profile):
        earlier = found.get(part := (use.name, use.place))
        found[part] = use if earlier is None else replace(earlier, fields=earlier.fields + use.fields)
    return tuple(found.values())


def _uses(profile: Any) -> Iterator[Use]:
    options, name = profile.generator.options, profile.generator.name
    name = name if name in FROM_CHECKOUT else "panohead"
    if "checkout" in options:
        yield _at(f"{name}-checkout", "generator.options.checkout", options["checkout"])
    if "network" in options:
        network = _at(name, "generator.options.network", options["network"])
        yield replace(network, sha256=options.get("sha256") or None)
    if profile.score.recognition != "none":
        yield _one("recognition", "arcface", "score.recognition", profile.score.recognition)
    if profile.score.detector not in ("auto", "embedded", "none"):
        yield _pack("score.detector", profile.score.detector)
    if profile.embed.landmarks != "generator" and profile.embed.pack:
        yield _pack("embed.pack", profile.embed.pack)
    yield _one("recognition", "arcface", "embed.recognition", profile.embed.recognition)
    yield _one("autoencoder", "sd15-vae", "encode.autoencoder", profile.encode.autoencoder)
    if profile.train.initial.unet == "embedded":
        yield Use(name="multiview", fields=("train.initial.unet",), place=None)
    for name, field in (("arc2face-unet", "unet"), ("arc2face-encoder", "text_encoder")):
        if field in (folders := profile.train.initial.outside) and _is_published(folders[field]):
            yield _at(name, f"train.initial.{field}", folders[field])
    if profile.evaluate.lpips_weights:
        yield _at("lpips-alexnet", "evaluate.lpips_weights", profile.evaluate.lpips_weights)
    if profile.reconstruct.lpips_weights:
        yield _at("lpips-alexnet", "reconstruct.lpips_weights", profile.reconstruct.lpips_weights)


def _is_published(folder: Path) -> bool:
    """Whether a folder is none of those that only a training reads: pipelines, checkpoints and multiview UNets."""
    if any(next(folder.glob(name), None) for name in _OWN):
        return False
    try:
        return read_config(folder).get("_class_name") != "MultiviewUNet"
    except SpinMeRoundError:  # the check says what is wrong
        return True


def _one(shipped: str, name: str, field: str, value: str) -> Use:
    return Use(name=shipped, fields=(field,), place=None) if value == "embedded" else _at(name, field, value)


def _pack(field: str, value: str) -> Use:
    return _at("buffalo_l" if Path(value).name == "buffalo_l" else "antelopev2", field, value)


def _at(name: str, field: str, value: Any) -> Use:
    return Use(name=name, fields=(field,), place=Path(str(value)))


def check(use: Use, say: Callable[[str], None] = lambda line: None) -> Finding:
    """Check one part; records its SHA-256 at first use, and compares it later."""
    if use.place is None:
        embedded_weights(use.name)
        return Finding(use=use, state="shipped", seen="part of this package")
    known = find_part(use.name)
    command = known.command(use.place)
    try:
        if not use.place.exists():
            return Finding(use=use, state="missing", seen=f"nothing at {use.place}", command=command)
        say(f"checking {use.place}")
        seen = inspect(use.name, use.place)
        if use.name.endswith("-checkout"):  # identified by its commit
            return Finding(use=use, state="found", seen=seen)
        first = not checksums_path(use.place).exists()
        fingerprint = record_checksums(use.place)
        if use.sha256 not in (None, fingerprint):
            raise SpinMeRoundError(
                f"{use.place}: the profile requires SHA-256 {use.sha256}, the file has {fingerprint}"
            )
    except OSError as error:
        if (failure := file_failure(error)) is None:
            raise
        return Finding(use=use, state="invalid", seen=str(failure))
    except SpinMeRoundError as error:
        inner = nested_pack(use.place)
        fix = unnest_command(use.place, inner) if inner else command
        return Finding(use=use, state="invalid", seen=str(error), command=fix)
    if use.name in FROM_CHECKOUT and use.sha256 is None:
        seen += f"; to trust it: --set generator.options.sha256={fingerprint}"
    seen += f"; SHA-256 {fingerprint[:12]}, {'recorded' if first else 'matches the record'}"
    return Finding(use=use, state="found", seen=seen)
