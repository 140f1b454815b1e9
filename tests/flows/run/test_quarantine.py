"""Quarantine of a run's heads in a store that other runs share."""

import pytest

from spinmeround.flows.run.quarantine import Quarantine
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.errors import SpinMeRoundError

pytestmark = pytest.mark.fast
KEYS = {f"tiny-{seed:06d}": {"sample": artifact_key("sample", 1, {"seed": seed}, {})} for seed in range(4)}


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path)


def test_failures_of_other_runs_do_not_count(store):
    """Only failures under the run's own keys are quarantined, and clearing them leaves the others."""
    other = artifact_key("sample", 1, {"seed": 99}, {})
    store.record_failure("sample", other, "tiny-000001", "no face", "Traceback", 2)
    quarantine = Quarantine(store, KEYS, max_share=0.5)
    assert quarantine.failures() == ()
    quarantine.add("sample", "tiny-000002", "no\n nose", "Traceback", 1)
    (failure,) = quarantine.failures()
    assert (failure.subject, failure.reason) == ("tiny-000002", "no nose")
    quarantine.clear()
    assert quarantine.failures() == ()
    assert [failure.key for failure in store.failures()] == [other]


def test_a_later_build_knows_the_failures_of_an_earlier_one(store):
    """A failure is in the quarantine of every later build with the same keys."""
    Quarantine(store, KEYS, max_share=0.5).add("sample", "tiny-000002", "no nose", "Traceback", 1)
    assert ("sample", KEYS["tiny-000002"]["sample"]) in Quarantine(store, KEYS, max_share=0.5)
    assert ("sample", KEYS["tiny-000001"]["sample"]) not in Quarantine(store, KEYS, max_share=0.5)


def test_the_share_of_quarantined_heads_is_limited(store):
    """Half of the heads are tolerated, one more is an error that names reasons and the remedy."""
    quarantine = Quarantine(store, KEYS, max_share=0.5)
    for name in ("tiny-000000", "tiny-000001"):
        quarantine.add("sample", name, "no nose", "Traceback", 1)
    quarantine.check()
    quarantine.add("sample", "tiny-000003", "no ears", "Traceback", 1)
    with pytest.raises(SpinMeRoundError, match=r"3 of 4 heads are quarantined, .* allows 2: .* --retry-quarantined"):
        quarantine.check()
