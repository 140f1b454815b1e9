"""Profiles: which are accepted, which are rejected, and with which messages."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from spinmeround.flows.profile import (
    PROFILES,
    ExecutionParams,
    ProfileSections,
    load_profile,
    profile_names,
    surface_warnings,
    validate_profile,
)
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.registry import HEAD_STAGES

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_are_valid(name):
    """Every profile in the package loads and has the name of its file."""
    assert load_profile(name).name == name


def test_demo_matches_the_readme():
    """At least 24 heads at 64 px, 125 views each."""
    demo = load_profile("demo")
    assert demo.plan.heads >= 24
    assert demo.render.resolution == 64
    assert demo.views.views == 125


def test_panohead_has_the_papers_numbers():
    """10,000 seeds at 512 px, and the paper's three phases of training, the last of them with single views too."""
    profile = load_profile("panohead")
    assert (profile.plan.heads, profile.render.resolution, profile.views.views) == (10_000, 512, 125)
    adapt, single, multi = profile.train.phases
    assert (adapt.steps, single.steps) == (31_000, 600_000)
    assert [(group.conditioning, group.targets) for group in multi.groups] == [(0, 1), (0, 8), (1, 7), (3, 5)]
    assert multi.steps * 3 / 4 == pytest.approx(1_000_000, rel=1e-3)  # on groups of eight
    assert profile.train.checkpoint_every % profile.train.validation.every == 0


def test_overrides_are_toml_values():
    """Numbers and lists are parsed as in TOML; a bare word is a string."""
    overrides = ["mesh.level=9.5", "views.elevations_deg=[0.0]", "generator.name=procedural", "plan.heads = 3"]
    profile = load_profile("demo", overrides)
    assert (profile.mesh.level, profile.views.elevations_deg, profile.plan.heads) == (9.5, (0.0,), 3)


def test_a_profile_extends_another(tmp_path):
    """Fields that a file does not set come from the profile that it extends, except its name."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\n[mesh]\nlevel = 8.0\n')
    mine, demo = load_profile(str(path)), load_profile("demo")
    assert (mine.name, mine.mesh.level) == ("mine", 8.0)
    assert mine.model_copy(update={"name": "demo", "mesh": demo.mesh}) == demo


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_score_the_surface_that_they_mesh(name):
    """Their levels and trims cause no warnings."""
    assert surface_warnings(load_profile(name)) == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["mesh.level=9"], ["score.level is 10, mesh.level is 9:"]),
        (["mesh.level=9", "score.level=9"], []),
        (["score.trim_top=0.1"], ["score.trim_top is 0.1, mesh.trim_top is 0:"]),
        (["score.trim_border=0.1", "mesh.trim_border=0.1", "mesh.trim_top=0.1"], []),
    ],
    ids=["other level", "both levels", "other trim", "equal trims"],
)
def test_scoring_another_surface_is_a_warning(overrides, expected):
    """A warning names each differing field with both values; an unset top trim equals the border trim."""
    found = surface_warnings(load_profile("demo", overrides))
    assert len(found) == len(expected)
    assert all(warning.startswith(words) for warning, words in zip(found, expected, strict=True))


def test_json_round_trip():
    """A profile dumped as JSON, as a form of the UI sends it, is the same profile."""
    demo = load_profile("demo")
    assert validate_profile(demo.model_dump(mode="json"), source="form") == demo


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mesh.levle=3", r"mesh\.levle: unknown field; did you mean mesh\.level\? \(mesh has level, "),
        ("mehs.level=3", r"mehs: unknown field; did you mean mesh\?"),
        ("mesh.level=true", r"mesh\.level: expected a number, got True"),
        ("views.elevations_deg=[true]", r"views\.elevations_deg: expected a number, got \[True\]"),
        ("train.text_encoder.prompt.start=true", r"train\.text_encoder\.prompt\.start: expected a number, got True"),
        ("views.azimuths=0", r"views\.azimuths: .*greater than or equal to 1, got 0"),
        ("plan.heads=0", r"plan\.heads: .*got 0"),
        ("plan.heads=many", r"plan\.heads: .*got 'many'"),
        ("views.elevations_deg=[]", r"views\.elevations_deg: "),
        ("publish.test_share=0.95", r"publish\.validation_share \+ publish\.test_share: expected less than 1"),
        ("views.elevations_deg=[60.0]", r"embed\.frontal: expected a view within 30 degrees"),
        ("train.unet.views=4", r"train\.multi_view: expected at most 4 views|train\.single_view: expected at most 4"),
        (
            "train.multi_view.groups=[{conditioning=1, targets=7, nearest=200}]",
            r"train\.multi_view\.groups\.nearest: expected at most the 125 views .* 200",
        ),
        (
            "train.multi_view.groups=[{conditioning=1, targets=7, nearst=16}]",
            r"train\.multi_view\.groups\.0\.nearst: unknown field; did you mean .*groups\.0\.nearest\?",
        ),
        ("train.identity_dropout=0.9", r"identity_dropout: expected shares whose sum is below 1, got 0\.15 and 0\.9"),
        ("train.unet.latent_channels=4", r"train\.unet\.latent_channels: expected 8, as the autoencoder .*, got 4"),
        ("train.text_encoder.width=768", r"train\.text_encoder\.width: expected .* 512, got 768"),
        ("mesh", r"--set mesh: expected section\.field=value"),
        ("name.x=1", r"--set name\.x=1: 'name' is a single value"),
        ("name=Big Words", r"name: .*got 'Big Words'"),
    ],
)
def test_invalid_fields_are_rejected_by_name(override, message):
    """The message has at most two lines and names the field, the value found and the values allowed."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_profile("demo", [override])
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mesh\n", "expected a TOML file"),
        ('extends = "nobody"\n', "'nobody': expected one of demo, "),
        ('extends = "{self}"\n', "forms a cycle"),
    ],
)
def test_invalid_files_are_rejected(tmp_path, text, message):
    """Invalid TOML, an unknown base profile and a profile that extends itself are errors that name the file."""
    path = tmp_path / "broken.toml"
    path.write_text(text.replace("{self}", str(path)))
    with pytest.raises(ConfigError, match=message):
        load_profile(str(path))


def test_unknown_profile():
    """The message lists the available profiles."""
    with pytest.raises(ConfigError, match=r"'dmeo': expected one of demo, embedded, panohead"):
        load_profile("dmeo")


def test_no_stage_reads_the_execution_section():
    """Neither the name nor `execution` enters a key."""
    assert not {section for stage in HEAD_STAGES for section in stage.reads} & {"name", "execution"}
    assert (PROFILES / "demo.toml").is_file()


def test_limits_of_another_generator_are_rejected():
    """The demo's limits are valid for procedural heads only; without limits, any generator is valid."""
    own = "generator.name=tests.support.tiny:make"
    with pytest.raises(ConfigError, match=r"screen\.generator: the limits were calibrated for 'procedural'"):
        load_profile("demo", [own])
    profile = load_profile("demo", [own, "screen={}"])
    assert not any(limit is not None for _, limit in profile.screen.limits)


def test_an_empty_table_replaces_the_inherited_one(tmp_path):
    """An empty table removes all inherited limits; sections that the profile does not set stay."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\nscreen = {}\n')
    profile = load_profile(str(path))
    assert not any(limit is not None for _, limit in profile.screen.limits)
    assert profile.render.resolution == 64


@pytest.mark.parametrize(
    ("size", "heads", "expected"), [(0, 3, 8), (0, 800, 8), (0, 801, 9), (0, 10_000, 100), (64, 10_000, 64), (1, 5, 1)]
)
def test_heads_per_shard(size, heads, expected):
    """Unless a size is set, a stage has at most 100 task runs with at least 8 heads each."""
    assert ExecutionParams(shard_size=size).heads_per_shard(heads) == expected


HEAVY = {"torch", "scipy", "diffusers", "transformers", "insightface", "onnxruntime", "skimage", "trimesh", "prefect"}


@pytest.mark.parametrize("module", ["spinmeround.flows.profile", "spinmeround.flows.run.folder"])
def test_configuration_imports_no_heavy_library(module):
    """Loading a profile, as `plan` and `--help` do, imports none of the libraries that take seconds to import."""
    code = f"import {module}, sys; print(*(name for name in sys.modules if '.' not in name))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "spinmeround" in loaded
    assert HEAVY & set(loaded) == set()


def test_a_verdict_of_another_generator_is_rejected(tmp_path):
    """The shipped verdict is for procedural heads; an unreadable verdict file is named, a missing one waits."""
    own = ["generator.name=tests.support.tiny:make", "screen={}"]
    assert load_profile("demo", ["screen.verdict=procedural"]).screen.verdict == "procedural"
    with pytest.raises(ConfigError, match=r"screen\.verdict: procedural was fitted to heads of 'procedural'"):
        load_profile("demo", [*own, "screen.verdict=procedural"])
    path = tmp_path / "verdict.json"
    load_profile("demo", [f"screen.verdict={path}"])
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"screen\.verdict: verdict .*verdict\.json: expected a file written by"):
        load_profile("demo", [f"screen.verdict={path}"])


def leaves(values: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """The fields of nested tables that are no tables themselves, with their values."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def test_one_field_can_be_named_alone():
    """Naming any one field with the value that it has anyway changes nothing beside it, at any depth."""
    everything = ProfileSections(name="plain")
    found = list(leaves(everything.model_dump(mode="json", exclude={"name"})))
    assert (("sample", "previews", "azimuths"), 8) in found
    for path, value in found:
        values: object = value
        for name in reversed(path):
            values = {name: values}
        assert ProfileSections.model_validate({"name": "plain", **values}) == everything, path


def test_an_override_changes_the_field_that_it_names():
    """Not the fields beside it, where a section's default is not its class's."""
    profile = load_profile("demo", ["sample.previews.azimuths=12", "embed.facing.max_elevation_deg=60"])
    assert (profile.sample.previews.azimuths, profile.sample.previews.elevations_deg) == (12, (0.0,))
    assert (profile.embed.facing.max_azimuth_deg, profile.embed.facing.max_elevation_deg) == (90.0, 60.0)
