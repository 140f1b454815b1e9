"""Profiles: every parameter of a run in one frozen model, composed of the sections that the stages define.

A profile is a TOML file in `flows/profiles/` or anywhere else; `extends` names the one that it starts from.
A section enters the keys of the stages that read it; `name`, `review` and `execution` enter none, so they can
change how a run goes but never what it makes (the decisions that `review` leads to do, head by head). Unknown,
impossible and contradictory fields are `ConfigError`s of a line or two that name the field, what was found and
what is allowed.
"""

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.meshes import MeshParams
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.dataset.publish import PublishParams
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.heads.encode import EncodeParams, latent_shape
from spinmeround.tasks.heads.normals import NormalsParams
from spinmeround.tasks.heads.plan import PlanParams
from spinmeround.tasks.heads.render import RenderParams
from spinmeround.tasks.heads.review import ReviewParams
from spinmeround.tasks.heads.sample import SampleParams
from spinmeround.tasks.heads.score import ScoreParams
from spinmeround.tasks.heads.screen import ScreenParams
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.training.params import TrainParams

PROFILES = Path(__file__).parent / "profiles"


SMALLEST_SHARD, MOST_SHARDS = 8, 100
"""A server that gets some thousand task runs at once loses records of them; a shard of few heads shows more."""


class ExecutionParams(FrozenModel):
    """How a run is spread over processes, and what it puts up with. Never changes what is made."""

    shard_size: int = Field(
        default=0,
        ge=0,
        description=f"Heads that one task run covers; 0: {SMALLEST_SHARD}, and as many more as it takes for a stage to "
        f"have at most {MOST_SHARDS} task runs",
    )
    workers: int = Field(default=0, ge=0, le=256, description="Worker processes; 0 is one for each core")
    retries: int = Field(default=1, ge=0, le=10, description="How often a head that failed is tried again")
    timeout_s: float = Field(default=900.0, gt=0.0, description="Longest time of one stage for one head, in seconds")
    max_quarantined_share: float = Field(
        default=0.25,
        ge=0.0,
        le=1.0,
        description="Share of quarantined heads past which a build fails",
    )

    def heads_a_shard(self, heads: int) -> int:
        """How many of these heads one task run covers."""
        return self.shard_size or max(SMALLEST_SHARD, -(-heads // MOST_SHARDS))


class Profile(FrozenModel):
    """Everything that a run is made from."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Name of the run and of its folder")
    generator: GeneratorConfig = GeneratorConfig()
    plan: PlanParams = PlanParams()
    views: ViewGrid = ViewGrid()
    sample: SampleParams = SampleParams()
    score: ScoreParams = ScoreParams()
    screen: ScreenParams = ScreenParams()
    review: ReviewParams = ReviewParams()
    render: RenderParams = RenderParams()
    mesh: MeshParams = MeshParams()
    normals: NormalsParams = NormalsParams()
    embed: EmbedParams = EmbedParams()
    publish: PublishParams = PublishParams()
    encode: EncodeParams = EncodeParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    report: ReportParams = ReportParams()
    execution: ExecutionParams = ExecutionParams()

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Profile":
        for contradiction in (
            _held_out,
            _frontal,
            _group_sizes,
            _neighbourhoods,
            _text_width,
            _latent_size,
            _screened_generator,
        ):
            if problem := contradiction(self):
                raise ValueError(problem)
        return self


def _held_out(profile: Profile) -> str | None:
    share = profile.publish.validation_share + profile.publish.test_share
    if share < 1:
        return None
    return (
        f"publish.validation_share + publish.test_share: expected less than 1, so that heads remain to train on, "
        f"got {share:g}"
    )


def _frontal(profile: Profile) -> str | None:
    frontal = profile.embed.frontal
    if frontal.select(profile.views.cameras()).any():
        return None
    return (
        f"embed.frontal: expected a view within {frontal.max_azimuth_deg:g} degrees of azimuth and "
        f"{frontal.max_elevation_deg:g} of elevation to embed, views has none"
    )


def _group_sizes(profile: Profile) -> str | None:
    names = ("adapt", "single_view", "multi_view")
    groups = {f"train.{name}": getattr(profile.train, name).largest for name in names}
    groups["evaluate"] = profile.evaluate.conditioning + profile.evaluate.targets
    most = min(profile.views.views, profile.train.unet.views)
    name, size = max(groups.items(), key=lambda group: group[1])
    if size <= most:
        return None
    return (
        f"{name}: expected at most {most} views (views has {profile.views.views}, train.unet.views is "
        f"{profile.train.unet.views}), got {size} conditioning and target views together"
    )


def _neighbourhoods(profile: Profile) -> str | None:
    for name in ("adapt", "single_view", "multi_view"):
        if (most := max((0, *getattr(profile.train, name).nearest))) > profile.views.views:
            return f"train.{name}.nearest: expected at most the {profile.views.views} views of a head, got {most}"
    return None


def _screened_generator(profile: Profile) -> str | None:
    found, expected = profile.generator.name, profile.screen.generator
    if not expected or found == expected:
        return None
    return (
        f"screen.generator: the limits were found for {expected!r}, the profile's generator is {found!r}; begin "
        "without limits (screen.generator='' and screen.limits={}) and find your own by 'spinmeround screen calibrate'"
    )


SURFACE_FIELDS = ("level", "trim_border", "trim_top")


def surface_doubts(profile: Profile) -> list[str]:
    """Where the screen scores another surface than the mesh will have. It may be meant, so it is told, not refused."""
    told = []
    for name in SURFACE_FIELDS:
        scored, meshed = (_surface_field(params, name) for params in (profile.score, profile.mesh))
        if scored != meshed:
            told.append(
                f"score.{name} is {scored:g}, mesh.{name} is {meshed:g}: the screen judges another surface than "
                f"is meshed; set score.{name}={meshed:g} too (which scores them anew), unless it is meant"
            )
    return told


def _surface_field(params: ScoreParams | MeshParams, name: str) -> float:
    value = getattr(params, name)
    return float(params.trim_border if value is None else value)


def _text_width(profile: Profile) -> str | None:
    width, expected = profile.train.text_encoder.width, profile.train.unet.cross_attention_dim
    return (
        None
        if width == expected
        else f"train.text_encoder.width: expected train.unet.cross_attention_dim {expected}, got {width}"
    )


def _latent_size(profile: Profile) -> str | None:
    """Side and channels of a latent, where the autoencoder is on this machine; else training finds out."""
    if (latent := latent_shape(profile.encode)) is None:
        return None
    factor, unet = latent.factor, profile.train.unet
    if unet.latent_channels != latent.channels:
        return (
            f"train.unet.latent_channels: expected {latent.channels}, as the autoencoder "
            f"(encode.autoencoder = {profile.encode.autoencoder}) has, got {unet.latent_channels}"
        )
    side, sample_size = profile.render.resolution, unet.sample_size
    if side == factor * sample_size:
        return None
    return (
        f"train.unet.sample_size: expected render.resolution {side} / {factor} of the autoencoder "
        f"(encode.autoencoder = {profile.encode.autoencoder}) = {side / factor:g}, got {sample_size}"
    )


def load_profile(name: str, overrides: Sequence[str] = ()) -> Profile:
    """The profile of this name or file, with `a.b=value` overrides (values as in TOML) put on top.

    Raises ConfigError where there is no such profile, or a field is unknown, impossible or contradictory.
    """
    values = _read(_find(name))
    for override in overrides:
        _override(values, override)
    return validated(values, source=f"profile {name}")


def validated(values: Mapping[str, Any], *, source: str) -> Profile:
    """The profile of these values; raises ConfigError that names the first two fields that are wrong."""
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {_explain(each)}" for each in error.errors()[:2])) from error


def profile_names() -> list[str]:
    """Names of the profiles that come with the package."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def _find(name: str) -> Path:
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(
            f"profile {name!r}: expected one of {', '.join(profile_names())}, or the path of a .toml file; found none"
        )
    return path


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except (ValueError, RecursionError, OSError) as error:  # ValueError: no TOML, no UTF-8, a date that can't be
        raise ConfigError(f"profile {path}: expected a TOML file: {error}") from error
    if path in seen:
        raise ConfigError(f"profile {path}: 'extends' goes in a circle")
    base = values.pop("extends", None)
    merged = _merged(_read(_find(str(base)), (*seen, path)), values) if base else values
    merged.setdefault("name", path.stem)
    return merged | {"name": values.get("name", path.stem)}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` put on `base`, table by table; an empty table empties the one below."""
    both = {
        name: _merged(base[name], value)
        if isinstance(base.get(name), dict) and isinstance(value, dict) and value
        else value
        for name, value in over.items()
    }
    return {**base, **both}


def _override(values: dict[str, Any], override: str) -> None:
    field, equals, text = override.partition("=")
    *sections, last = field.strip().split(".")
    if not equals or not all([*sections, last]):
        raise ConfigError(f"--set {override}: expected section.field=value, for instance mesh.level=9.5")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section!r} is a single value and has no fields")
    values[last] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _explain(error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return _unknown(error["loc"])
    if error["type"] == "value_error" or not field:
        return f"{field + ': ' if field else ''}{error['msg'].removeprefix('Value error, ')}"
    return f"{field}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _unknown(location: Sequence[Any]) -> str:
    """An unknown field: by name, with the nearest that exist and all that are allowed there."""
    model: type[BaseModel] = Profile
    for part in location[:-1]:
        inner = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    field, allowed = ".".join(str(part) for part in location), list(model.model_fields)
    near = get_close_matches(str(location[-1]), allowed, n=1)
    hint = f"; did you mean {'.'.join([*map(str, location[:-1]), near[0]])}?" if near else ""
    where = ".".join(str(part) for part in location[:-1]) or "a profile"
    return f"{field}: unknown field{hint} ({where} has {', '.join(allowed)})"
