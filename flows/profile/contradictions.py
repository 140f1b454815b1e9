"""Checks between the sections of a profile.

A check returns None, or one line that names the fields, what is expected and what was found.
"""

import re
from collections.abc import Callable

from spinmeround.flows.profile.sections import ProfileSections
from spinmeround.models.geometry.params import MeshParams
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.encode import latent_shape
from spinmeround.tasks.heads.score import ScoreParams
from spinmeround.tasks.heads.verdict_file import SHIPPED, verdict_file, verdict_path
from spinmeround.tasks.training.params.phases import PHASES, field_of

TRAINING_PHASES = tuple(map(field_of, PHASES))
"""Fields of the phases in `train`."""
SURFACE_FIELDS = ("level", "trim_border", "trim_top")
"""Fields of `score` and `mesh` that select the surface of a head."""


def first_contradiction(profile: ProfileSections) -> str | None:
    """The first contradiction between sections; None if all of them agree."""
    return next((problem for check in CHECKS if (problem := check(profile))), None)


def surface_warnings(profile: ProfileSections) -> list[str]:
    """Fields by which the screen scores a different surface than the mesh has. Valid, but rarely intended."""
    warnings = []
    for name in SURFACE_FIELDS:
        scored, meshed = (_surface_field(params, name) for params in (profile.score, profile.mesh))
        if scored != meshed:
            warnings.append(
                f"score.{name} is {scored:g}, mesh.{name} is {meshed:g}: the screen scores a different surface than "
                f"the mesh; unless this is intended, set score.{name}={meshed:g} (all heads are scored again)"
            )
    return warnings


def _surface_field(params: ScoreParams | MeshParams, name: str) -> float:
    value = getattr(params, name)
    return float(params.trim_border if value is None else value)


def _split_shares(profile: ProfileSections) -> str | None:
    share = profile.publish.validation_share + profile.publish.test_share
    if share < 1:
        return None
    return (
        "publish.validation_share + publish.test_share: expected less than 1, so that heads remain for training, "
        f"got {share:g}"
    )


def _frontal_view(profile: ProfileSections) -> str | None:
    frontal = profile.embed.frontal
    if frontal.select(profile.views.cameras()).any():
        return None
    return (
        f"embed.frontal: expected a view within {frontal.max_azimuth_deg:g} degrees of azimuth and "
        f"{frontal.max_elevation_deg:g} of elevation to embed, views has none"
    )


def _group_sizes(profile: ProfileSections) -> str | None:
    groups = {f"train.{name}": getattr(profile.train, name).largest for name in TRAINING_PHASES}
    most = min(profile.views.views, profile.train.unet.views)
    name, size = max(groups.items(), key=lambda group: group[1])
    if size <= most:
        return _evaluated_views(profile)
    return (
        f"{name}: expected at most {most} views (views has {profile.views.views}, train.unet.views is "
        f"{profile.train.unet.views}), got {size} conditioning and target views together"
    )


def _evaluated_views(profile: ProfileSections) -> str | None:
    """The views of an evaluation may take several groups of the model."""
    given, targets, group = profile.evaluate.conditioning_views, profile.evaluate.targets, profile.train.unet.views
    if given + targets > profile.views.views:
        return (
            f"evaluate: expected at most the {profile.views.views} views of a head, got {given + targets} conditioning "
            "and target views together"
        )
    if given >= group:
        return f"evaluate.conditioning_views: expected fewer than train.unet.views {group}, got {given}"
    return None


def _neighbourhoods(profile: ProfileSections) -> str | None:
    for name in TRAINING_PHASES:
        if (most := max(group.nearest for group in getattr(profile.train, name).groups)) > profile.views.views:
            return (
                f"train.{name}.groups.nearest: expected at most the {profile.views.views} views of a head, got {most}"
            )
    return None


def _text_width(profile: ProfileSections) -> str | None:
    width, expected = profile.train.text_encoder.width, profile.train.unet.cross_attention_dim
    if width == expected:
        return None
    return f"train.text_encoder.width: expected train.unet.cross_attention_dim {expected}, got {width}"


def _latent_size(profile: ProfileSections) -> str | None:
    """Side and channels of the latents. Checked if the autoencoder is on this machine; otherwise training fails."""
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


def _screened_generator(profile: ProfileSections) -> str | None:
    found, expected = profile.generator.name, profile.screen.generator
    if not expected or found == expected:
        return None
    return (
        f"screen.generator: the limits were calibrated for {expected!r}, the profile's generator is {found!r}; start "
        "without a screen (screen={}), label some heads with 'spinmeround screen label' and fit a verdict to them with "
        "'spinmeround screen calibrate'"
    )


def _verdict_generator(profile: ProfileSections) -> str | None:
    """The generator of the learned verdict. Checked if its file is on this machine; otherwise screening fails."""
    name = profile.screen.verdict
    if not name or (name not in SHIPPED and not verdict_path(name).is_file()):
        return None
    try:
        expected = verdict_file(name)[0].generator
    except ConfigError as error:
        return f"screen.verdict: {error}"
    if expected in ("", profile.generator.name):
        return None
    return (
        f"screen.verdict: {name} was fitted to heads of {expected!r}, the profile's generator is "
        f"{profile.generator.name!r}; start without a screen (screen={{}}), label some heads with 'spinmeround screen "
        "label' and fit a verdict to them with 'spinmeround screen calibrate'"
    )


def _numbered_gpu(profile: ProfileSections) -> str | None:
    device = profile.generator.options.get("device")
    if profile.generator.name not in ("panohead", "spherehead") or not re.fullmatch(r"cuda:[1-9]\d*", str(device)):
        return None
    return (
        f"generator.options.device: expected auto, cuda or cpu, got {device}: a worker sees one GPU alone; choose it "
        f"with execution.gpus=[{str(device).removeprefix('cuda:')}]"
    )


CHECKS: tuple[Callable[[ProfileSections], str | None], ...] = (
    _split_shares,
    _frontal_view,
    _group_sizes,
    _neighbourhoods,
    _text_width,
    _latent_size,
    _screened_generator,
    _verdict_generator,
    _numbered_gpu,
)
"""All checks, in the order in which a profile reports them."""
