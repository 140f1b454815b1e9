"""A stage gets exactly what it declares, and so does its key."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import CorruptArtifact, MissingArtifact
from spinmeround.tasks.stage import Head, Stage, StageJob, StageParams, StageSections, head_keys, make_head

pytestmark = pytest.mark.fast


class Level(StageParams):
    value: float = 1.0


class Size(StageParams):
    side: int = 4


class LevelSections(StageSections):
    level: Level


class SizeSections(StageSections):
    size: Size


class Profile(BaseModel):
    model_config = ConfigDict(frozen=True)
    level: Level = Level()
    size: Size = Size()


def write_seed(job: StageJob[LevelSections]) -> None:
    with (job.out / "calls.txt").open("a") as file:
        file.write(f"{job.head.seed}\n")


def copy_first(job: StageJob[SizeSections]) -> None:
    (job.out / "copy.txt").write_text((job.inputs["first"] / "calls.txt").read_text() * job.sections.size.side)


FIRST = Stage(name="first", version=1, sections_type=LevelSections, make=write_seed)
SECOND = Stage(name="second", version=1, sections_type=SizeSections, inputs=("first",), make=copy_first)
HEAD = Head(id="test-000007", seed=7)


def keys(profile: Profile, head: Head = HEAD) -> dict[str, str]:
    stages = (FIRST, SECOND)
    return head_keys(stages, head, {stage.name: stage.sections(profile) for stage in stages})


def test_keys_follow_what_is_read():
    """A parameter changes the keys of the stages that read it and of later stages, and no others."""
    plain, level, size = keys(Profile()), keys(Profile(level=Level(value=2.0))), keys(Profile(size=Size(side=5)))
    assert level["first"] != plain["first"]
    assert level["second"] != plain["second"]
    assert size["first"] == plain["first"]
    assert size["second"] != plain["second"]


def test_keys_follow_the_seed_and_the_version():
    """Two seeds have no key in common, and neither have two versions of a stage."""
    other = keys(Profile(), Head(id="test-000008", seed=8))
    assert not set(other.values()) & set(keys(Profile()).values())
    newer = replace(FIRST, version=2)
    sections = FIRST.sections(Profile())
    assert newer.key(HEAD, sections, {}) != FIRST.key(HEAD, sections, {})


def test_weights_enter_the_key():
    """Other weights give another key."""
    sections = FIRST.sections(Profile())
    made = {
        replace(FIRST, weights=lambda _, weights=weights: weights).key(HEAD, sections, {}) for weights in ("a", "b")
    }
    assert len(made) == 2


def test_weights_are_fingerprinted_once_for_all_heads(tmp_path):
    """Binding a stage computes the fingerprint; keys and artifacts of heads do not compute it again."""
    calls = []
    stage = replace(FIRST, weights=lambda _: calls.append(1) or "w")
    bound, store = stage.bound(stage.sections(Profile())), ArtifactStore(tmp_path)
    for seed in range(3):
        head = Head(id=f"test-{seed:06d}", seed=seed)
        assert bound.make(store, head, {}) == "made"
        assert store.verify("first", bound.key(head, {})).manifest.weights == "w"
    assert len(calls) == 1
    assert bound.key(HEAD, {}) == stage.key(HEAD, stage.sections(Profile()), {})


def test_a_missing_input_raises_missing_artifact(tmp_path):
    """The stage does not run, and leaves no file."""
    with pytest.raises(MissingArtifact, match="run the stage first"):
        make_head(ArtifactStore(tmp_path), SECOND, HEAD, SECOND.sections(Profile()), {"first": "0" * 64})
    assert list((tmp_path / "tmp").glob("*")) == []


def test_a_stage_gets_only_what_it_declares(tmp_path):
    """`make` sees the declared sections and inputs only."""
    seen = []
    stage = replace(FIRST, make=lambda job: (seen.append(job), write_seed(job)))
    make_head(ArtifactStore(tmp_path), stage, HEAD, stage.sections(Profile()), {})
    assert seen[0].sections == LevelSections(level=Level())
    assert stage.reads == ("level",)
    assert dict(seen[0].inputs) == {}


def test_made_once_then_reused(tmp_path):
    """The second call reuses the artifact of the first; a later stage reads its bytes."""
    store, named, profile = ArtifactStore(tmp_path), keys(Profile()), Profile()
    assert make_head(store, FIRST, HEAD, FIRST.sections(profile), {}) == "made"
    assert make_head(store, FIRST, HEAD, FIRST.sections(profile), {}) == "reused"
    assert make_head(store, SECOND, HEAD, SECOND.sections(profile), {"first": named["first"]}) == "made"
    assert (store.path("second", named["second"]) / "copy.txt").read_text() == "7\n" * 4


def test_a_truncated_input_is_noticed(tmp_path):
    """A stage never reads an input whose size differs from its manifest; the input can be made again."""
    store, named, profile = ArtifactStore(tmp_path), keys(Profile()), Profile()
    make_head(store, FIRST, HEAD, FIRST.sections(profile), {})
    (store.path("first", named["first"]) / "calls.txt").write_text("")
    with pytest.raises(CorruptArtifact, match="first"):
        make_head(store, SECOND, HEAD, SECOND.sections(profile), {"first": named["first"]})
    assert make_head(store, FIRST, HEAD, FIRST.sections(profile), {}) == "made"


def test_an_exception_leaves_nothing(tmp_path):
    """A stage that raises leaves no artifact and no temporary folder."""

    def fail(job: StageJob[LevelSections]) -> None:
        (job.out / "half.txt").write_text("half")
        raise RuntimeError("no nose")

    stage = replace(FIRST, make=fail)
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError, match="no nose"):
        make_head(store, stage, HEAD, stage.sections(Profile()), {})
    assert not store.has("first", stage.key(HEAD, stage.sections(Profile()), {}))
    assert not list(tmp_path.rglob("half.txt"))


def test_a_stage_waits_for_stages_that_it_does_not_read():
    """Stages in `after` are needed like inputs, but do not enter the key."""
    stage = replace(FIRST, after=("second",), gated=False)
    assert stage.needs == ("second",)
    sections = FIRST.sections(Profile())
    assert stage.key(HEAD, sections, {}) == FIRST.key(HEAD, sections, {})


def _make_in_process(root: str, outcomes: "multiprocessing.Queue[str]") -> None:
    outcomes.put(make_head(ArtifactStore(Path(root)), FIRST, HEAD, FIRST.sections(Profile()), {}))


def test_four_processes_make_it_once(tmp_path):
    """Of processes that make the same artifact at once, one makes it and the others reuse it."""
    context = multiprocessing.get_context("fork")
    outcomes = context.Queue()
    processes = [context.Process(target=_make_in_process, args=(str(tmp_path), outcomes)) for _ in range(4)]
    for process in processes:
        process.start()
    found = sorted(outcomes.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert found == ["made", "reused", "reused", "reused"]
