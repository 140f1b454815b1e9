"""Profiles: what is taken, what is refused, and in which words."""

import pytest

from spinmeround.flows.profile import (
    PROFILES,
    ExecutionParams,
    load_profile,
    profile_names,
    surface_warnings,
    validate_profile,
)
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.registry import HEAD_STAGES


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_are_valid(name):
    """Every profile in the package loads, and is called as its file."""
    assert load_profile(name).name == name


def test_demo_is_what_the_readme_promises():
    """At least 24 heads at 64 px, 125 views each."""
    demo = load_profile("demo")
    assert demo.plan.heads >= 24
    assert demo.render.resolution == 64
    assert demo.views.views == 125


def test_panohead_has_the_papers_numbers():
    """10,000 seeds at 512 px, and the paper's three stages of training, with single views in the last, too."""
    profile = load_profile("panohead")
    assert (profile.plan.heads, profile.render.resolution, profile.views.views) == (10_000, 512, 125)
    adapt, single, multi = profile.train.groupings
    assert (adapt.steps, single.steps) == (31_000, 600_000)
    pairs = list(zip(multi.conditioning, multi.targets, strict=True))
    assert pairs == [(0, 1), (0, 8), (1, 7), (3, 5)]
    assert multi.steps * 3 / 4 == pytest.approx(1_000_000, rel=1e-3)  # on groups of eight


def test_overrides_have_tomls_types(tmp_path):
    """Numbers, lists and words are read as TOML reads them; a bare word is a text."""
    overrides = ["mesh.level=9.5", "views.elevations_deg=[0.0]", "generator.name=procedural", "plan.heads = 3"]
    profile = load_profile("demo", overrides)
    assert (profile.mesh.level, profile.views.elevations_deg, profile.plan.heads) == (9.5, (0.0,), 3)


def test_a_file_extends_another(tmp_path):
    """What a file does not say is as in the one that it extends; its name is its own."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\n[mesh]\nlevel = 8.0\n')
    mine, demo = load_profile(str(path)), load_profile("demo")
    assert (mine.name, mine.mesh.level) == ("mine", 8.0)
    assert mine.model_copy(update={"name": "demo", "mesh": demo.mesh}) == demo


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_screen_the_surface_that_they_mesh(name):
    """Nothing is to be told about their levels and trims."""
    assert surface_warnings(load_profile(name)) == []


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["mesh.level=9"], ["score.level is 10, mesh.level is 9:"]),
        (["mesh.level=9", "score.level=9"], []),
        (["score.trim_top=0.1"], ["score.trim_top is 0.1, mesh.trim_top is 0:"]),
        (["score.trim_border=0.1", "mesh.trim_border=0.1", "mesh.trim_top=0.1"], []),
    ],
    ids=["another level", "both levels", "another trim", "a trim said twice"],
)
def test_a_screen_of_another_surface_is_told(overrides, told):
    """Each field that differs is named with both values; a top that is not given is as the border."""
    found = surface_warnings(load_profile("demo", overrides))
    assert len(found) == len(told)
    assert all(warning.startswith(words) for warning, words in zip(found, told, strict=True))


def test_a_profile_survives_json():
    """A form gives back what it was given."""
    demo = load_profile("demo")
    assert validate_profile(demo.model_dump(mode="json"), source="form") == demo


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("mesh.levle=3", r"mesh\.levle: unknown field; did you mean mesh\.level\? \(mesh has level, "),
        ("mehs.level=3", r"mehs: unknown field; did you mean mesh\?"),
        ("views.azimuths=0", r"views\.azimuths: .*greater than or equal to 1, got 0"),
        ("plan.heads=0", r"plan\.heads: .*got 0"),
        ("plan.heads=many", r"plan\.heads: .*got 'many'"),
        ("views.elevations_deg=[]", r"views\.elevations_deg: "),
        ("publish.test_share=0.95", r"publish\.validation_share \+ publish\.test_share: expected less than 1"),
        ("views.elevations_deg=[60.0]", r"embed\.frontal: expected a view within 30 degrees"),
        ("train.unet.views=4", r"train\.multi_view: expected at most 4 views|train\.single_view: expected at most 4"),
        ("train.multi_view.nearest=[0, 0, 200]", r"train\.multi_view\.nearest: expected at most the 125 views .* 200"),
        ("train.identity_dropout=0.9", r"identity_dropout: expected shares whose sum is below 1, got 0\.15 and 0\.9"),
        ("train.unet.latent_channels=4", r"train\.unet\.latent_channels: expected 32, as the autoencoder .*, got 4"),
        ("train.text_encoder.width=768", r"train\.text_encoder\.width: expected .* 512, got 768"),
        ("mesh", r"--set mesh: expected section\.field=value"),
        ("name.x=1", r"--set name\.x=1: 'name' is a single value"),
        ("name=Big Words", r"name: .*got 'Big Words'"),
    ],
)
def test_nonsense_is_refused_by_name(override, message):
    """Every mistake is one line or two that names the field, what was found and what is allowed."""
    with pytest.raises(ConfigError, match=message) as caught:
        load_profile("demo", [override])
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mesh\n", "expected a TOML file"),
        ('extends = "nobody"\n', "'nobody': expected one of demo, "),
        ('extends = "{self}"\n', "goes in a circle"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, message):
    """A file that is no TOML, or extends what is not there or itself, is named."""
    path = tmp_path / "broken.toml"
    path.write_text(text.replace("{self}", str(path)))
    with pytest.raises(ConfigError, match=message):
        load_profile(str(path))


def test_unknown_profile():
    """The profiles that there are are listed."""
    with pytest.raises(ConfigError, match=r"'dmeo': expected one of demo, embedded, panohead"):
        load_profile("dmeo")


def test_no_stage_reads_how_a_run_goes():
    """Neither the name nor `execution` can enter a key."""
    assert not {section for stage in HEAD_STAGES for section in stage.reads} & {"name", "execution"}
    assert (PROFILES / "demo.toml").is_file()


def test_limits_of_another_generator_are_refused():
    """The demo's limits hold for procedural heads; without limits any generator goes."""
    own = "generator.name=tests.support.tiny:make"
    with pytest.raises(ConfigError, match=r"screen\.generator: the limits were found for 'procedural'"):
        load_profile("demo", [own])
    profile = load_profile("demo", [own, "screen.generator=''", "screen.limits={}"])
    assert not any(limit is not None for _, limit in profile.screen.limits)


def test_empty_table_empties_the_one_below(tmp_path):
    """A profile that extends another drops all its limits by an empty table, and keeps what it doesn't name."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\n[screen]\ngenerator = ""\nlimits = {}\n')
    profile = load_profile(str(path))
    assert not any(limit is not None for _, limit in profile.screen.limits)
    assert profile.render.resolution == 64


@pytest.mark.parametrize(
    ("asked", "heads", "expected"), [(0, 3, 8), (0, 800, 8), (0, 801, 9), (0, 10_000, 100), (64, 10_000, 64), (1, 5, 1)]
)
def test_shards_grow_with_the_heads(asked, heads, expected):
    """Unless a size is asked for, a stage has at most a hundred task runs, of eight heads at least."""
    assert ExecutionParams(shard_size=asked).heads_per_shard(heads) == expected
