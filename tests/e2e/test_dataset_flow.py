"""The dataset flow on a real Prefect server: reuse, quarantine, damaged artifacts, single stages."""

import json
import re
import shutil
from pathlib import Path

import pytest
import zarr
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId

from spinmeround.flows.dataset import dataset_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized, stage_flow
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import verify
from spinmeround.storage.errors import ConfigError, CorruptArtifact, SpinMeRoundError
from spinmeround.tasks.heads.registry import DATASET_STAGES
from tests.e2e.conftest import TINY, Build
from tests.e2e.runs import artifact_of, artifacts, build, copy_runs, counts, recorded, summary
from tests.support.packs import write_pack

STAGES = [stage.name for stage in DATASET_STAGES]
pytestmark = pytest.mark.usefixtures("server")


def generator(**options):
    """The tiny generator with these misbehaviours."""
    return {"name": "tests.support.tiny:make", "options": options}


def test_first_build(tiny_build):
    """A build makes every artifact of every head in shards, and plain zarr reads the published dataset."""
    found = tiny_build.summary
    assert counts(found) == dict.fromkeys(STAGES, (4, 0)) | {"publish": (1, 0)}
    none = dict.fromkeys(("dropped", "kept_by_review", "quarantined", "pending"), 0)
    assert found["heads"] == {"asked": 4, "screened_out": {}, "screen_reasons": {}, **none, "written": 4}
    shards = {f"{name} {shard}": "Completed" for name in STAGES for shard in ("0-1", "2-3")}
    assert tiny_build.states == shards | {"plan": "Completed", "publish": "Completed"}
    group = zarr.open_group(found["dataset"]["path"], mode="r")
    assert group["rgb"].shape == (4, 4, 16, 16, 3)
    assert [int(seed) for seed in group["seed"][:]] == [0, 1, 2, 3]


def test_second_build_reuses_everything(tiny, tiny_build, built):
    """The same build again is one cached task run per stage and has the same digest."""
    found = build(tiny(), built)
    assert counts(found) == dict.fromkeys(STAGES, (0, 4)) | {"publish": (0, 1)}
    assert found["dataset"]["digest"] == tiny_build.summary["dataset"]["digest"]
    states = dict.fromkeys(STAGES, "Cached") | {"plan": "Completed", "publish": "Cached"}
    assert recorded("dataset", len(states)) == states
    plan = artifact_of("plan")
    assert "4 heads of profile tiny" in plan
    assert all(f"| {stage} | 4 | 0 | 0 |" in plan for stage in STAGES)
    assert len(list((built / "tiny" / "summaries").iterdir())) == 2


def test_artifacts_name_the_flow_run_that_made_them(tiny_build):
    """Every manifest has the id of the run on the server, which has the workers' log lines and lists the artifacts."""
    manifests = [json.loads((path / "manifest.json").read_text()) for path in artifacts(tiny_build.runs / "tiny/store")]
    (run,) = {manifest["flow_run"] for manifest in manifests}
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run).name == "dataset tiny, 4 heads"
        logged = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))
        shown = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])))
    assert {f"spinmeround.tests.tiny: renders seed {seed}" for seed in range(4)} <= {line.message for line in logged}
    pictures, plan = (next(each.data for each in shown if each.key == key) for key in ("pictures-render", "plan"))
    assert f"| total | 0 | {len(STAGES) * 4} | 0 | ? | ? |  |" in plan
    rendered = {(each["subject"], each["key"]) for each in manifests if each["stage"] == "render"}
    assert all(f"| {head} | `render/{key}` |" in pictures for head, key in rendered)


def test_digest_depends_on_the_profile_alone(tiny, tiny_build, tmp_path):
    """Shards of one head and two workers give the digest of shards of two heads and one worker."""
    found = build(tiny(execution={"shard_size": 1, "workers": 2}), tmp_path)
    assert found["dataset"]["digest"] == tiny_build.summary["dataset"]["digest"]


def test_a_changed_field_remakes_what_depends_on_it(tiny, built):
    """A different marching-cubes level remakes mesh, normals and the dataset, and nothing else."""
    changed = counts(build(tiny(mesh__level=9.0), built))
    remade = {name: (4, 0) if name in ("mesh", "normals") else (0, 4) for name in STAGES}
    assert changed == remade | {"publish": (1, 0)}


@pytest.fixture(scope="module")
def misbehaving(server, tiny, tmp_path_factory):
    """A profile and its build: head 1 leaves the cube, head 2 always fails, head 3 kills its worker once."""
    folder = tmp_path_factory.mktemp("misbehaving")
    (folder / "memory").mkdir()
    profile = tiny(generator=generator(clipped=[1], failing=[2], dying=[3], memory=str(folder / "memory")))
    return profile, Build(runs=folder, summary=build(profile, folder), states={})


def test_a_failing_head_is_quarantined(misbehaving):
    """The build continues without it and records reason, traceback and the number of attempts."""
    _, found = misbehaving
    assert (found.summary["heads"]["quarantined"], found.summary["heads"]["written"]) == (1, 2)
    (failure,) = ArtifactStore(found.runs / "tiny" / "store").failures()
    assert (failure.subject, failure.stage, failure.attempts) == ("tiny-000002", "sample", 2)
    assert "seed 2 has no nose" in failure.reason
    assert "Traceback" in failure.traceback


def test_a_killed_worker_is_replaced(misbehaving):
    """A head whose worker dies is made by the next attempt."""
    _, found = misbehaving
    assert (found.runs / "memory" / "3").exists()
    assert counts(found.summary)["sample"] == (3, 0)


def test_dropped_heads_are_not_rendered(misbehaving):
    """A head that the screen drops is counted under its reason and skipped by the later stages."""
    _, found = misbehaving
    assert found.summary["heads"]["screened_out"] == {"clipped_volume": 1}
    assert (counts(found.summary)["screen"], counts(found.summary)["render"]) == ((3, 0), (2, 0))


def test_quarantined_heads_are_retried_on_request(misbehaving, tmp_path):
    """Without the request no build retries them; with it, failures of other runs in a shared store stay."""
    profile, found = misbehaving
    runs = copy_runs(found.runs, tmp_path / "runs")
    store = ArtifactStore(runs / "tiny" / "store")
    key = artifact_key("sample", 1, {"of": "another run"}, {})
    store.record_failure("sample", key, "other-000001", "no face", "Traceback", 2)
    before = {failure.subject: failure.created for failure in store.failures()}
    assert counts(build(profile, runs))["sample"] == (0, 3)
    assert {failure.subject: failure.created for failure in store.failures()} == before
    sized(dataset_flow, profile)(profile, Place(runs=str(runs)), retry_quarantined=True)
    after = {failure.subject: failure.created for failure in store.failures()}
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == ["tiny-000002"]


def test_too_many_quarantined_heads_fail_the_build(tiny, tmp_path):
    """Above the profile's share, every build fails and reports the reasons and what to do."""
    profile = tiny(generator=generator(failing=[0, 1, 2]))
    for _ in range(2):
        with pytest.raises(
            SpinMeRoundError, match=r"share allows 2: .*seed 0 has no nose.*'spinmeround build' again with --retry-quar"
        ):
            build(profile, tmp_path)


def test_a_head_without_a_face_is_quarantined(tiny, tmp_path):
    """If the detector finds no face in its frontal views, that is its reason; the other heads are published."""
    pack = str(write_pack(tmp_path / "pack"))
    unet = {**TINY["train"]["unet"], "sample_size": 16}
    sizes = {"render__resolution": 64, "train__unet": unet}
    profile = tiny(generator=generator(faceless=[1]), embed__landmarks="detector", embed__pack=pack, **sizes)
    found = build(profile, tmp_path / "runs")
    assert (found["heads"]["quarantined"], found["heads"]["written"]) == (1, 3)
    (failure,) = ArtifactStore(tmp_path / "runs" / "tiny" / "store").failures()
    assert (failure.subject, failure.stage) == ("tiny-000001", "embed")
    assert re.search(r"no frontal view shows a face", failure.reason)


def test_a_damaged_input_is_remade(tiny, tiny_build, built):
    """A changed byte in an input is detected before use; remaking the input needs no `execution.retries`."""
    store = built / "tiny" / "store"
    victim = next((store / "render").rglob("rgb.chunk"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 16
    victim.unlink()  # the dataset holds the same file
    victim.write_bytes(data)
    shutil.rmtree(store / "normals")
    found = build(tiny(execution={"shard_size": 4, "workers": 1, "retries": 0}), built)
    assert (found["heads"]["written"], found["heads"]["quarantined"]) == (4, 0)
    assert (counts(found)["render"], counts(found)["normals"]) == ((1, 4), (4, 0))
    assert len(list((store / "corrupt").iterdir())) == 1
    assert found["dataset"]["digest"] == tiny_build.summary["dataset"]["digest"]


@pytest.mark.parametrize(("stage", "file"), [("mesh", "mesh.npz"), ("render", "rgb.chunk")], ids=["mesh", "render"])
def test_a_truncated_artifact_is_reported_and_remade(tiny, tiny_build, built, stage, file):
    """The build that finds it names it and fails; the next one remakes it, with the same digest.

    The dataset shares its pixel files with the artifacts: it is intact again, too.
    """
    store = built / "tiny" / "store"
    victim = next((store / stage).glob("??/*")) / file
    with victim.open("r+b") as open_file:
        open_file.truncate(100)
    with pytest.raises(CorruptArtifact, match=f"{stage}/{victim.relative_to(store).parts[2][:12]}"):
        build(tiny(), built)
    after = build(tiny(), built)
    assert counts(after)[stage] == (1, 3)
    assert after["dataset"]["digest"] == tiny_build.summary["dataset"]["digest"]
    assert verify(Path(after["dataset"]["path"])) == []


def test_a_dataset_that_lost_a_file_is_joined_again(tiny, built):
    """The next build detects it, joins the same heads again and makes nothing else."""
    (path,) = (built / "tiny" / "datasets").glob("*.zarr")
    (path / "normals/c.2.0.0.0.0").unlink()
    after = build(tiny(), built)
    assert counts(after) == dict.fromkeys(STAGES, (0, 4)) | {"publish": (1, 0)}
    assert after["dataset"]["path"] == str(path)
    assert verify(path) == []


def test_the_folder_of_another_profile_is_rejected(tiny, built):
    """The error names both profiles; no file of the folder changes."""
    before = sorted(built.rglob("*"))
    with pytest.raises(ConfigError, match="expected a run of profile 'other', found one of 'tiny'"):
        build(tiny(name="other"), built, out=str(built / "tiny"))
    assert sorted(built.rglob("*")) == before


def test_stages_one_by_one(tiny, tmp_path):
    """A stage's flow runs that stage alone and requires its inputs.

    A head with two reasons is dropped once, under the first of them; `screen_reasons` counts both.
    """
    place, folder = Place(runs=str(tmp_path)), tmp_path / "tiny"
    limits = {"clipped_volume": 0.0, "depth_to_width": 0.1}
    profile = tiny(generator=generator(clipped=[1, 2]), screen__limits=limits)
    with pytest.raises(ConfigError, match="run the stage sample first"):
        stage_flow(profile, "render", place)
    stage_flow(profile, "sample", place)
    assert sorted(path.name for path in (folder / "store").iterdir() if path.name in STAGES) == ["sample"]
    first = summary(folder)
    assert (first["heads"]["pending"], first["heads"]["quarantined"]) == (4, 0)
    for stage in ("score", "screen"):
        stage_flow(profile, stage, place)
    assert summary(folder) == first  # a stage leaves the summary of the run as it is, and has one of its own
    heads = json.loads(max((folder / "summaries").iterdir()).read_text(encoding="utf-8"))["heads"]
    assert heads["screened_out"] == {"clipped_volume": 2, "depth_to_width": 2}
    assert (heads["screen_reasons"]["clipped_volume"], heads["screen_reasons"]["depth_to_width"]) == (2, 4)
    assert sum(heads["screened_out"].values()) == heads["dropped"] == heads["asked"] == 4
