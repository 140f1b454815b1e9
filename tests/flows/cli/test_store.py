"""`spinmeround store` and `plan` on a small run: output, exit status, and the arithmetic of estimates."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.profile import load_profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.session import plan_session
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.stage import make_head
from tests.support.artifacts import put

BASE = """
extends = "demo"
name = "tiny"
generator = { name = "tests.support.tiny:make", options = { clipped = [2] } }
plan = { heads = 3 }
views = { azimuths = 8, elevations_deg = [0.0] }
sample = { resolution = 16, previews = { azimuths = 4, elevations_deg = [0.0] } }
score = { cells = 32, recognition = "none" }
mesh = { resolution = 24 }
execution = { workers = 2 }
screen = {}
"""
PROFILE = """
extends = "BASE"
name = "tiny"
screen.limits.clipped_volume = 0.0
"""


def make(profile, session, stages, heads):
    """Make these stages of these heads, without an orchestrator."""
    for head in heads:
        for name in stages:
            inputs = {each: session.keys[head.id][each] for each in STAGES_BY_NAME[name].inputs}
            make_head(session.store, STAGES_BY_NAME[name], head, STAGES_BY_NAME[name].sections(profile), inputs)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of three screened heads, of which one is dropped and another is rendered and meshed."""
    root = tmp_path_factory.mktemp("made")
    (root / "base.toml").write_text(BASE)
    (root / "tiny.toml").write_text(PROFILE.replace("BASE", str(root / "base.toml")))
    profile = load_profile(str(root / "tiny.toml"))
    (root / "runs" / "tiny").mkdir(parents=True)
    (root / "runs" / "tiny" / "run.json").write_text(json.dumps({"profile": "tiny"}))
    session = plan_session(profile, Place(runs=str(root / "runs")))
    make(profile, session, ("sample", "score", "screen", "review"), session.heads)
    make(profile, session, ("render", "mesh"), session.heads[:1])
    return root


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of that run; returns a function that runs a command, checks its exit status and returns its output."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    (session,) = [plan_session(load_profile("tiny.toml"), Place())]
    session.register()

    def invoke(*words, status=0):
        done = CliRunner().invoke(app, [*words, *(() if words[0] == "plan" else ("--profile", "tiny.toml"))])
        assert done.exit_code == status, done.output
        return done.output

    invoke.session = session
    return invoke


def rows(text):
    """{first word of a line: the other words}"""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()}


def test_plan_counts_made_and_missing_artifacts(run):
    """Dropped heads are not rendered; a plan makes nothing."""
    found = rows(run("plan", "tiny.toml"))
    assert found["sample"][:3] == ["3", "0", "0"]
    assert found["render"][:3] == ["1", "1", "1"]
    assert found["embed"][:4] == ["0", "2", "1", "?"]
    assert found["total"][:3] == [str(3 * 4 + 2), str(1 + 1 + 2 * 2), str(1 + 1 + 2 * 1)]
    assert "67% of 3 heads with a verdict of this profile are kept" in run("plan", "tiny.toml")
    assert len(list(run.session.store.backend.entries())) == 14


def test_plan_extrapolates_shares_and_durations(run):
    """Unscreened heads count by the share that is kept; time is the mean, divided by the workers."""
    store = run.session.store
    for entry in store.backend.entries("render"):
        path = store.root / "render" / entry.key[:2] / entry.key / "manifest.json"
        manifest = json.loads(path.read_text()) | {"duration_s": 40.0}
        del manifest["checksum"]
        path.write_text(json.dumps(manifest))
    more = rows(run("plan", "tiny.toml", "--set", "plan.heads=9"))
    assert more["screen"][:3] == ["3", "6", "0"]
    assert more["render"][:5] == ["1", "5", "3", "100", "s"] or more["render"][3:5] == ["2", "min"]
    assert more["render"][-5:] == ["1", "with", "the", "same", "parameters"]
    other = rows(run("plan", "tiny.toml", "--set", "render.resolution=32", "--set", "train.unet.sample_size=8"))
    assert other["render"][:3] == ["0", "2", "1"]
    assert other["render"][-4:] == ["1", "with", "other", "parameters"]
    assert "no head has a verdict yet" not in run("plan", "tiny.toml", "--set", "screen.limits.clipped_volume=0.5")


def test_plan_before_anything(made, tmp_path, monkeypatch):
    """Without a store nothing is estimated and nothing is made."""
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["plan", str(made / "tiny.toml")])
    assert found.exit_code == 0, found.output
    assert "no head has a verdict yet" in found.output
    assert rows(found.output)["embed"][:3] == ["0", "3", "0"]
    assert list(tmp_path.iterdir()) == []


def test_verify_and_repair(run):
    """Damage is reported with status 1, set aside by repair, and then gone."""
    assert "14 artifacts checked, all intact" in run("store", "verify")
    key = run.session.keys["tiny-000000"]["render"]
    (run.session.store.path("render", key) / "arrays.json").write_bytes(b"x")
    output = run("store", "verify", status=1)
    assert f"render/{key[:12]}: arrays.json: expected" in output
    assert "spinmeround store repair --profile tiny.toml" in output
    assert "spinmeround build --profile tiny.toml" in run("store", "repair")
    assert not run.session.store.has("render", key)
    assert "13 artifacts checked, all intact" in run("store", "verify")


def test_gc_and_du(run):
    """Another mesh level makes the old mesh garbage once the run registers the new one; gc lists, then removes it."""
    assert rows(run("store", "du"))["mesh"][0] == "1"
    assert rows(run("store", "gc", "--grace-hours", "0"))["total"] == ["0", "0", "B"]
    changed = plan_session(load_profile("tiny.toml", ["mesh.level=9"]), Place())
    changed.register()
    assert rows(run("store", "gc"))["total"][0] == "0"  # it is younger than a day
    shown = run("store", "gc", "--grace-hours", "0")
    assert rows(shown)["mesh"][0] == rows(shown)["total"][0] == "1"
    assert "--delete removes" in shown
    assert len(list(run.session.store.backend.entries("mesh"))) == 1
    assert "removed 1 artifacts and 0 strays" in run("store", "gc", "--grace-hours", "0", "--delete")
    assert list(run.session.store.backend.entries("mesh")) == []
    assert len(list(run.session.store.backend.entries())) == 13


def test_du_names_stages_of_another_version(run):
    """Artifacts of a stage that this version does not have stay listed, with a note."""
    assert "another version" not in run("store", "du")
    put(run.session.store, "write", 1)
    shown = run("store", "du")
    assert rows(shown)["write"][0] == "1"
    assert "write: stages of another version of the software" in shown


def test_why_shows_provenance(run):
    """By head or by the start of a key: stages, parameters, inputs, code, time, machine."""
    keys = run.session.keys["tiny-000000"]
    head, artifact = run("store", "why", "tiny-000000"), run("store", "why", keys["mesh"][:9])
    for text in (head, artifact):
        assert f"mesh {keys['mesh'][:12]}" in text
        assert f"from      sample {keys['sample'][:12]}" in text
        assert '"level": 10.0' in text
        assert "weights   tiny-1" in text
        assert run.session.store.manifest("mesh", keys["mesh"]).machine in text
    assert head.count("made      not yet") == 3
    assert f"normals {keys['normals'][:12]}" in head
    assert "normals " not in artifact
    assert "dropped: clipped_volume" in run("store", "why", "tiny-000002")
    assert "expected the start of a key" in run("store", "why", "tiny-000009", status=2)
    assert "found none" in run("store", "why", "0123456789ab", status=2)


def test_why_shows_differences(run):
    """Two heads differ by their seeds; two profiles by the changed field, in the stages after it alone."""
    keys = run.session.keys
    heads = run("store", "why", "tiny-000000", "tiny-000001")
    assert "seed: 0 -> 1" in heads
    assert "to make for the second: render, mesh, normals, embed, encode" in heads
    level = run("store", "why", "tiny-000000", "--against-set", "mesh.level=9")
    assert rows(level)["mesh"] == ["different", "mesh.level:", "10.0", "->", "9.0"]
    assert "different artifacts in mesh, normals, encode" in level
    shutil.copy("tiny.toml", "again.toml")
    assert "no difference" in run("store", "why", "tiny-000000", "--against", "again.toml")
    artifacts = run("store", "why", keys["tiny-000000"]["screen"], keys["tiny-000001"]["screen"][:12])
    assert rows(artifacts)["sample"] == ["different", "seed:", "0", "->", "1"]
    assert "the second is complete" in artifacts
    both = run("store", "why", "tiny-000000", "tiny-000001", "--against", "again.toml", status=2)
    assert "got both" in both


def test_a_missing_store(run, tmp_path):
    """A missing store is an error, and none is made."""
    for command in ("verify", "repair", "gc", "du"):
        assert "expected an artifact store" in run("store", command, "--store", str(tmp_path / "no"), status=2)
    assert not (tmp_path / "no").exists()
