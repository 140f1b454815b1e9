"""The final verdict, and the independence of heads from decisions on others."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.flows.profile import validate_profile
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.tasks.heads.registry import DATASET_STAGES, HEAD_STAGES
from spinmeround.tasks.heads.review import REVIEW, ScreenVerdict, load_review, review
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.stage import Head, NoSections, StageJob, head_keys

pytestmark = pytest.mark.fast
KEPT = Verdict(keep=True, reasons=(), scores={"holes": 0.0})
DROPPED = Verdict(keep=False, reasons=("holes",), scores={"holes": 0.5})


@pytest.mark.parametrize(
    ("verdict", "decision", "keep", "reasons", "kept_by_review"),
    [
        (KEPT, None, True, (), False),
        (DROPPED, None, False, ("holes",), False),
        (KEPT, "keep", True, (), False),
        (KEPT, "drop", False, ("review",), False),
        (DROPPED, "keep", True, (), True),
        (DROPPED, "drop", False, ("holes", "review"), False),
    ],
)
def test_a_decision_overrides_the_screen(verdict, decision, keep, reasons, kept_by_review):
    """Without a decision the screen's verdict holds; a decision to drop adds the reason `review`."""
    final = review(verdict, decision)
    assert (final.keep, final.reasons, final.kept_by_review) == (keep, reasons, kept_by_review)
    assert final.screen == ScreenVerdict(keep=verdict.keep, reasons=verdict.reasons)
    assert final.scores == verdict.scores


VALUES = {
    "name": "test",
    "generator": {"name": "tests.support.tiny:make"},
    "render": {"resolution": 256},
    "train": {"unet": {"latent_channels": 8}},
}
PROFILE = validate_profile(VALUES, source="test")
SECTIONS = {stage.name: stage.sections(PROFILE) for stage in HEAD_STAGES}
decisions = st.lists(st.sampled_from([None, "keep", "drop"]), min_size=4, max_size=4)


@settings(max_examples=30, deadline=None)
@given(decisions, decisions)
def test_a_decision_changes_one_key(before: list, after: list):
    """Only the keys of reviews change, of exactly those heads whose decision changes."""

    def keys(decisions):
        heads = [Head(id=f"tiny-{seed:06d}", seed=seed, decision=decision) for seed, decision in enumerate(decisions)]
        found = {head.id: head_keys(HEAD_STAGES, head, SECTIONS) for head in heads}
        return {(name, stage): key for name, stages in found.items() for stage, key in stages.items()}

    old, new = keys(before), keys(after)
    changed = {place for place in old if old[place] != new[place]}
    assert changed == {(f"tiny-{seed:06d}", "review") for seed in range(4) if before[seed] != after[seed]}


def test_review_is_between_screen_and_render():
    """Exactly the stages after review need it."""
    names = [stage.name for stage in DATASET_STAGES]
    assert names.index("screen") < names.index("review") < names.index("render")
    assert all(
        ("review" in stage.needs) == (names.index(stage.name) > names.index("review")) for stage in DATASET_STAGES
    )


def test_artifact_reads_back(tmp_path):
    """The stored verdict equals the computed one, and only the decision enters the key."""
    store = ArtifactStore(tmp_path)
    screen = "0" * 64
    folder = tmp_path / "screen"
    folder.mkdir()
    verdict = {"keep": False, "reasons": ["holes"], "scores": {"holes": 0.5}}
    (folder / "verdict.json").write_text(json.dumps(verdict))
    head = Head(id="tiny-000001", seed=1, decision="keep")
    params, key = REVIEW.bound(NoSections()).key_params(head), REVIEW.key(head, NoSections(), {"screen": screen})
    with store.commit(
        "review", key, version=1, params=params, inputs={"screen": screen}, weights="", subject=head.id
    ) as out:
        REVIEW.make(StageJob(head=head, sections=NoSections(), inputs={"screen": folder}, out=out))
    assert load_review(store.open("review", key).path) == review(DROPPED, "keep")
    assert params == {"decision": "keep"}
