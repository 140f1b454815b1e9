"""The promise of a stage: nothing but what it declares reaches it, or its key."""

import multiprocessing
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import CorruptArtifact, MissingArtifact
from spinmeround.tasks.stage import Head, Stage, StageJob, StageParams, head_keys, make_head


class Level(StageParams):
    value: float = 1.0


class Size(StageParams):
    side: int = 4


class Profile(BaseModel):
    model_config = ConfigDict(frozen=True)
    level: Level = Level()
    size: Size = Size()


def write_seed(job: StageJob) -> None:
    with (job.out / "calls.txt").open("a") as file:
        file.write(f"{job.head.seed}\n")


def copy_first(job: StageJob) -> None:
    (job.out / "copy.txt").write_text((job.inputs["first"] / "calls.txt").read_text() * job.sections["size"].side)


FIRST = Stage(name="first", version=1, reads=("level",), make=write_seed)
SECOND = Stage(name="second", version=1, reads=("size",), inputs=("first",), make=copy_first)
HEAD = Head(id="test-000007", seed=7)


def keys(profile: Profile, head: Head = HEAD) -> dict[str, str]:
    stages = (FIRST, SECOND)
    return head_keys(stages, head, {stage.name: stage.sections(profile) for stage in stages})


def test_keys_follow_what_is_read():
    """A parameter changes the keys of the stages that read it and of those after them, and no others."""
    plain, level, size = keys(Profile()), keys(Profile(level=Level(value=2.0))), keys(Profile(size=Size(side=5)))
    assert level["first"] != plain["first"]
    assert level["second"] != plain["second"]
    assert size["first"] == plain["first"]
    assert size["second"] != plain["second"]


def test_keys_follow_the_seed_and_the_version():
    """Two seeds share no key, and neither do two versions of a stage."""
    other = keys(Profile(), Head(id="test-000008", seed=8))
    assert not set(other.values()) & set(keys(Profile()).values())
    newer = Stage(name="first", version=2, reads=("level",), make=write_seed)
    sections = FIRST.sections(Profile())
    assert newer.key(HEAD, sections, {}) != FIRST.key(HEAD, sections, {})


def test_weights_enter_the_key():
    """Other weights, other artifact."""
    sections = FIRST.sections(Profile())
    made = {
        Stage(name="first", version=1, reads=("level",), weights=lambda _, w=w: w, make=write_seed).key(
            HEAD, sections, {}
        )
        for w in ("a", "b")
    }
    assert len(made) == 2


def test_weights_are_looked_at_once_for_all_heads(tmp_path):
    """Binding a stage reads its weights; keys and artifacts of any number of heads do not."""
    looks = []
    stage = Stage(name="first", version=1, reads=("level",), weights=lambda _: looks.append(1) or "w", make=write_seed)
    bound, store = stage.bound(stage.sections(Profile())), ArtifactStore(tmp_path)
    for seed in range(3):
        head = Head(id=f"test-{seed:06d}", seed=seed)
        assert bound.make(store, head, {}) == "made"
        assert store.verify("first", bound.key(head, {})).manifest.weights == "w"
    assert len(looks) == 1
    assert bound.key(HEAD, {}) == stage.key(HEAD, stage.sections(Profile()), {})


def test_an_input_that_is_gone_is_told_from_a_damaged_one(tmp_path):
    """The stage is not run, and nothing is left."""
    with pytest.raises(MissingArtifact, match="run the stage first"):
        make_head(ArtifactStore(tmp_path), SECOND, HEAD, SECOND.sections(Profile()), {"first": "0" * 64})
    assert list((tmp_path / "tmp").glob("*")) == []


def test_a_stage_is_handed_what_it_reads_and_no_more(tmp_path):
    """`make` sees the declared sections and inputs only."""
    seen = []
    stage = Stage(name="first", version=1, reads=("level",), make=lambda job: (seen.append(job), write_seed(job)))
    make_head(ArtifactStore(tmp_path), stage, HEAD, stage.sections(Profile()), {})
    assert set(seen[0].sections) == {"level"}
    assert dict(seen[0].inputs) == {}


def test_made_once_then_reused(tmp_path):
    """The second call finds the first one's artifact; its input's bytes reach it."""
    store, named, profile = ArtifactStore(tmp_path), keys(Profile()), Profile()
    assert make_head(store, FIRST, HEAD, FIRST.sections(profile), {}) == "made"
    assert make_head(store, FIRST, HEAD, FIRST.sections(profile), {}) == "reused"
    assert make_head(store, SECOND, HEAD, SECOND.sections(profile), {"first": named["first"]}) == "made"
    assert (store.path("second", named["second"]) / "copy.txt").read_text() == "7\n" * 4


def test_a_truncated_input_is_noticed(tmp_path):
    """A stage never works on an input whose size is not its manifest's; the input can then be made again."""
    store, named, profile = ArtifactStore(tmp_path), keys(Profile()), Profile()
    make_head(store, FIRST, HEAD, FIRST.sections(profile), {})
    (store.path("first", named["first"]) / "calls.txt").write_text("")
    with pytest.raises(CorruptArtifact, match="first"):
        make_head(store, SECOND, HEAD, SECOND.sections(profile), {"first": named["first"]})
    assert make_head(store, FIRST, HEAD, FIRST.sections(profile), {}) == "made"


def test_an_exception_leaves_nothing(tmp_path):
    """A stage that raises leaves no artifact and no temp folder."""

    def fail(job: StageJob) -> None:
        (job.out / "half.txt").write_text("half")
        raise RuntimeError("no nose")

    stage = Stage(name="first", version=1, reads=("level",), make=fail)
    store = ArtifactStore(tmp_path)
    with pytest.raises(RuntimeError, match="no nose"):
        make_head(store, stage, HEAD, stage.sections(Profile()), {})
    assert not store.has("first", stage.key(HEAD, stage.sections(Profile()), {}))
    assert not list(tmp_path.rglob("half.txt"))


def _make_in_process(root: str, outcomes: "multiprocessing.Queue[str]") -> None:
    outcomes.put(make_head(ArtifactStore(Path(root)), FIRST, HEAD, FIRST.sections(Profile()), {}))


def test_four_processes_make_it_once(tmp_path):
    """Of processes that want the same artifact at once, one makes it and the others reuse it."""
    context = multiprocessing.get_context("fork")
    outcomes = context.Queue()
    processes = [context.Process(target=_make_in_process, args=(str(tmp_path), outcomes)) for _ in range(4)]
    for process in processes:
        process.start()
    found = sorted(outcomes.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert found == ["made", "reused", "reused", "reused"]
