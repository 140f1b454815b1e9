"""What the dataset flow promises, on a real Prefect server."""

import re
from pathlib import Path

import pytest
import zarr

from spinmeround.flows.dataset import dataset_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized, stage_flow
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import verify
from spinmeround.storage.errors import ConfigError, CorruptArtifact, SpinMeRoundError
from spinmeround.tasks.heads.registry import DATASET_STAGES
from tests.e2e.conftest import TINY
from tests.e2e.runs import build, counts, recorded, summary
from tests.support.packs import write_pack

STAGES = [stage.name for stage in DATASET_STAGES]
pytestmark = pytest.mark.usefixtures("server")


def test_first_build_makes_and_second_reuses(tiny, tmp_path):
    """A build is a graph of shards; the same build again is one cached task run a stage, with the same digest."""
    first = build(tiny(), tmp_path)
    assert counts(first) == dict.fromkeys(STAGES, (4, 0)) | {"publish": (1, 0)}
    none = dict.fromkeys(("dropped", "kept_by_review", "quarantined", "pending"), 0)
    assert first["heads"] == {"asked": 4, "screened_out": {}, "screen_reasons": {}, **none, "written": 4}
    shards = {f"{name} {shard}": "Completed" for name in STAGES for shard in ("0-1", "2-3")}
    assert recorded("dataset", 20) == shards | {"plan": "Completed", "publish": "Completed"}

    second = build(tiny(), tmp_path)
    assert counts(second) == dict.fromkeys(STAGES, (0, 4)) | {"publish": (0, 1)}
    assert second["dataset"] == first["dataset"]
    assert recorded("dataset", 11) == dict.fromkeys(STAGES, "Cached") | {"plan": "Completed", "publish": "Cached"}
    assert len(list((tmp_path / "tiny" / "summaries").iterdir())) == 2


def test_digest_is_a_function_of_the_profile_alone(tiny, tmp_path):
    """Shards of one and of eight, one worker and two, give the same digest in separate stores."""
    digests = {
        build(tiny(execution={"shard_size": size, "workers": workers}), tmp_path / f"{size}-{workers}")["dataset"][
            "digest"
        ]
        for size, workers in ((1, 2), (8, 1))
    }
    assert len(digests) == 1


def test_one_changed_field_redoes_what_depends_on_it(tiny, tmp_path):
    """Another marching-cubes level makes mesh, normals, write and publish anew, and nothing else."""
    build(tiny(), tmp_path)
    changed = counts(build(tiny(mesh__level=9.0), tmp_path))
    again = {name: (4, 0) if name in ("mesh", "normals", "write") else (0, 4) for name in STAGES}
    assert changed == again | {"publish": (1, 0)}


def test_plain_zarr_reads_what_was_built(tiny, tmp_path):
    """The dataset needs nothing of ours to be read."""
    path = build(tiny(), tmp_path)["dataset"]["path"]
    group = zarr.open_group(path, mode="r")
    assert group["rgb"].shape == (4, 4, 16, 16, 3)
    assert [int(seed) for seed in group["seed"][:]] == [0, 1, 2, 3]


def test_a_head_that_always_fails_is_quarantined(tiny, tmp_path):
    """The build goes on without it, remembers why, does not try again unasked, and does when asked."""
    profile = tiny(generator={"name": "tests.support.tiny:make", "options": {"failing": [2]}})
    found = build(profile, tmp_path)
    assert found["heads"]["quarantined"] == 1
    assert found["heads"]["written"] == 3
    (failure,) = ArtifactStore(tmp_path / "tiny" / "store").failures()
    assert (failure.subject, failure.stage, failure.attempts) == ("tiny-000002", "sample", 2)
    assert "seed 2 has no nose" in failure.reason
    assert "Traceback" in failure.traceback
    assert counts(build(profile, tmp_path))["sample"] == (0, 3)


def test_a_head_without_a_face_is_quarantined_with_that_reason(tiny, tmp_path):
    """The detector finds none in its frontal views; the other heads are found, embedded and published."""
    generator = {"name": "tests.support.tiny:make", "options": {"faceless": [1]}}
    pack = str(write_pack(tmp_path / "pack"))
    unet = {**TINY["train"]["unet"], "sample_size": 16}
    sizes = {"render__resolution": 64, "train__unet": unet}
    profile = tiny(generator=generator, embed__landmarks="detector", embed__pack=pack, **sizes)
    found = build(profile, tmp_path / "runs")
    assert (found["heads"]["quarantined"], found["heads"]["written"]) == (1, 3)
    (failure,) = ArtifactStore(tmp_path / "runs" / "tiny" / "store").failures()
    assert (failure.subject, failure.stage) == ("tiny-000001", "embed")
    assert re.search(r"no frontal view shows a face \(\d+ were looked at\)", failure.reason)


def test_screened_heads_go_no_further(tiny, tmp_path):
    """A head that the screen drops is counted by its reasons and never rendered."""
    profile = tiny(generator={"name": "tests.support.tiny:make", "options": {"clipped": [1]}})
    found = build(profile, tmp_path)
    assert found["heads"]["dropped"] == 1
    assert "clipped_volume" in found["heads"]["screened_out"]
    assert counts(found)["screen"] == (4, 0)
    assert counts(found)["render"] == (3, 0)


def test_counts_of_heads_add_up(tiny, tmp_path):
    """A head with two reasons is dropped once, under the first of them; both stand in the full tally."""
    generator = {"name": "tests.support.tiny:make", "options": {"clipped": [1, 2]}}
    profile = tiny(generator=generator, screen__limits={"clipped_volume": 0.0, "depth_to_width": 0.1})
    for stage in ("sample", "score", "screen"):
        stage_flow(profile, stage, Place(runs=str(tmp_path)))
    heads = summary(tmp_path / "tiny")["heads"]
    assert heads["screened_out"] == {"clipped_volume": 2, "depth_to_width": 2}
    assert (heads["screen_reasons"]["clipped_volume"], heads["screen_reasons"]["depth_to_width"]) == (2, 4)
    assert sum(heads["screened_out"].values()) == heads["dropped"] == heads["asked"] == 4


def test_a_killed_worker_is_replaced(tiny, tmp_path):
    """A worker that dies in the middle of a head is replaced, and the head is made at the next attempt."""
    memory = tmp_path / "memory"
    memory.mkdir()
    options = {"dying": [0, 3], "memory": str(memory)}
    found = build(tiny(generator={"name": "tests.support.tiny:make", "options": options}), tmp_path)
    assert found["heads"]["written"] == 4
    assert sorted(path.name for path in memory.iterdir()) == ["0", "3"]


def test_a_hanging_head_is_quarantined(tiny, tmp_path):
    """A head that takes too long loses its worker and is given up with that reason."""
    generator = {"name": "tests.support.tiny:make", "options": {"hanging": [1]}}
    profile = tiny(generator=generator, execution={"timeout_s": 20.0, "retries": 0, "max_quarantined_share": 0.5})
    assert build(profile, tmp_path)["heads"]["quarantined"] == 1
    (failure,) = ArtifactStore(tmp_path / "tiny" / "store").failures()
    assert failure.reason == "timed out after 20 s"


def test_too_many_quarantined_heads_fail_the_build(tiny, tmp_path):
    """Past the profile's share, every build fails and says what was wrong with the heads and what to do."""
    profile = tiny(generator={"name": "tests.support.tiny:make", "options": {"failing": [0, 1, 2]}})
    for _ in range(2):
        with pytest.raises(
            SpinMeRoundError, match=r"share allows 2: .*seed 0 has no nose.*'spinmeround build' again with --retry-quar"
        ):
            build(profile, tmp_path)


def test_retrying_leaves_other_runs_failures_alone(tiny, tmp_path):
    """In a shared store, only the failures of the run that asks are forgotten."""
    profile = tiny(plan={"heads": 2}, generator={"name": "tests.support.tiny:make", "options": {"failing": [1]}})
    store = ArtifactStore(tmp_path / "store")
    key = artifact_key("sample", 1, {"seed": 1}, {})
    store.record_failure("sample", key, "other-000001", "no face", "Traceback", 2)
    build(profile, tmp_path, store=str(store.root))
    sized(dataset_flow, profile)(profile, Place(runs=str(tmp_path), store=str(store.root)), retry_quarantined=True)
    assert {failure.subject for failure in store.failures()} == {"other-000001", "tiny-000001"}


def test_a_damaged_input_is_remade_and_no_failure_of_the_head(tiny, tmp_path):
    """A changed byte in an input is noticed before it is used; remaking it needs no `execution.retries`."""
    execution = {"shard_size": 4, "workers": 1, "retries": 0}
    place = Place(runs=str(tmp_path))
    for stage in ("sample", "score", "screen", "review", "render"):
        stage_flow(tiny(execution=execution), stage, place)
    victim = next((tmp_path / "tiny" / "store" / "render").rglob("rgb/c/0/0/0/0/0"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 16
    victim.write_bytes(data)
    found = build(tiny(execution=execution), tmp_path)
    assert (found["heads"]["written"], found["heads"]["quarantined"]) == (4, 0)
    assert counts(found)["render"] == (1, 4)
    assert len(list((tmp_path / "tiny" / "store" / "corrupt").iterdir())) == 1


@pytest.mark.parametrize(
    ("stage", "file", "told"),
    [("mesh", "mesh.npz", "mesh"), ("write", "rgb/c/0/0/0/0/0", "render")],
    ids=["mesh", "write"],
)
def test_a_truncated_artifact_is_told_and_made_anew(tiny, tmp_path, stage, file, told):
    """The build that finds it names it and fails; the next one makes it anew, with the same digest.

    Pixels of a written head are the rendering's own file: the first stage that holds it is named, and both are
    made anew. A dataset that shares the damaged file with the artifact is whole again, too.
    """
    before = build(tiny(), tmp_path)
    store = tmp_path / "tiny" / "store"
    victim = next((store / stage).glob("??/*")) / file
    named = next(path for path in (store / told).glob("??/*") if (path / file).samefile(victim))
    with victim.open("r+b") as open_file:
        open_file.truncate(100)
    with pytest.raises(CorruptArtifact, match=f"{told}/{named.name[:12]}"):
        build(tiny(), tmp_path)
    after = build(tiny(), tmp_path)
    assert counts(after)[stage] == counts(after)[told] == (1, 3)
    assert after["dataset"] == before["dataset"]
    assert verify(Path(after["dataset"]["path"])) == []


def test_a_dataset_that_lost_a_file_is_joined_anew(tiny, tmp_path):
    """The next build notices, joins the same heads again and makes nothing else."""
    path = Path(build(tiny(), tmp_path)["dataset"]["path"])
    (path / "normals/c/2/0/0/0/0").unlink()
    after = build(tiny(), tmp_path)
    assert counts(after) == dict.fromkeys(STAGES, (0, 4)) | {"publish": (1, 0)}
    assert after["dataset"]["path"] == str(path)
    assert verify(path) == []


def test_another_profiles_folder_is_refused(tiny, tmp_path):
    """Nothing of it is touched."""
    build(tiny(plan={"heads": 1}), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="expected a run of profile 'other', found one of 'tiny'"):
        build(tiny(name="other"), tmp_path, out=str(tmp_path / "tiny"))
    assert sorted(tmp_path.rglob("*")) == before


def test_single_stage(tiny, tmp_path):
    """A stage's own flow makes that stage alone, and says what is to be run first where its input is missing."""
    place = Place(runs=str(tmp_path))
    with pytest.raises(ConfigError, match="run the stage sample first"):
        stage_flow(tiny(), "render", place)
    stage_flow(tiny(), "sample", place)
    store = ArtifactStore(tmp_path / "tiny" / "store")
    assert sorted(path.name for path in store.root.iterdir() if path.name in STAGES) == ["sample"]
    heads = summary(tmp_path / "tiny")["heads"]
    assert (heads["pending"], heads["quarantined"]) == (4, 0)
