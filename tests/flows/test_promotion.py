"""The decision about a new model: an alias that moves meanwhile, earlier answers, and what the UI shows."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from spinmeround.flows import promotion
from spinmeround.flows.promotion import Promotion
from spinmeround.flows.review import approval
from spinmeround.storage.artifacts import Answer, ArtifactStore, ModelRegistry, stamp
from spinmeround.tasks.promotion.compare import Comparison
from spinmeround.tasks.promotion.params import PromoteParams
from tests.storage.artifacts.test_models import add, move

Compared = Callable[[int | None], Comparison]


class Decision:
    """Decisions about versions of the model `heads` in a store, with a comparison that a test provides."""

    def __init__(self, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry = ModelRegistry(store)
        self.shown: list[str] = []
        self._store, self._patch = store, monkeypatch
        monkeypatch.setattr(promotion, "create_markdown_artifact", lambda text, **_: self.shown.append(text))
        for module in (promotion, approval):
            monkeypatch.setattr(module, "current_flow_run", lambda: UUID(int=7))

    def about(self, number: int, compared: Compared, **params: Any) -> Promotion:
        """The outcome for a version; `compared` gets the number of the promoted one."""

        def submit(task: Any, data: Any, evaluation: str, before: int | None) -> Any:
            return SimpleNamespace(result=lambda: compared(before))

        self._patch.setattr(promotion, "submit", submit)
        profile = SimpleNamespace(promote=PromoteParams(model="heads", **params))
        shown = SimpleNamespace(show=lambda create, *args, **options: create(*args, **options))
        session: Any = SimpleNamespace(profile=profile, store=self._store, results={}, shown=shown)
        data: Any = None
        found = promotion._decide(session, data, number, "e" * 64)
        assert session.results["promotion"] == found.model_dump()
        return found


@pytest.fixture
def decision(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> Decision:
    """Three versions, of which the first is promoted."""
    found = Decision(store, monkeypatch)
    for number in (1, 2, 3):
        add(found.registry, number)
    move(found.registry, 1)
    return found


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def better(before: int | None) -> Comparison:
    return Comparison(better=True, reason=f"better than version {before}", improvement=1.0)


def worse(before: int | None) -> Comparison:
    return Comparison(better=False, reason=f"worse than version {before}", improvement=-1.0)


def answered(approved: bool, number: int = 2) -> Answer:
    return Answer(version=number, alias="production", approved=approved, comment="seen", given=stamp())


def promoted(decision: Decision) -> list[int]:
    """All versions that the alias has pointed to."""
    return [each.version for each in decision.registry.get("heads").aliases["production"]]


def test_a_better_model_is_promoted_and_a_worse_one_is_not(decision: Decision) -> None:
    """The reason is in the alias's history, or only in the artifact, which both get."""
    found = decision.about(2, worse)
    assert (found.promoted, found.before, promoted(decision)) == (False, 1, [1])
    found = decision.about(2, better)
    assert (found.promoted, found.before, promoted(decision)) == (True, 1, [1, 2])
    history = decision.registry.get("heads").aliases["production"]
    assert (history[1].reason, history[1].moved.flow_run) == ("better than version 1", str(UUID(int=7)))
    assert ["heads@2: not promoted" in decision.shown[0], "Worse than version 1." in decision.shown[0]] == [True, True]
    assert "heads@2: promoted" in decision.shown[1]


def test_an_alias_that_moves_meanwhile_is_compared_with_again(decision: Decision) -> None:
    """Another run promotes version 3 during the comparison: the new model has to beat that one, too."""
    seen: list[int | None] = []

    def compared(before: int | None) -> Comparison:
        seen.append(before)
        if before == 1:
            move(decision.registry, 3)
            return better(before)
        return worse(before)

    found = decision.about(2, compared)
    assert seen == [1, 3]
    assert (found.promoted, found.before, promoted(decision)) == (False, 3, [1, 3])


def test_the_promoted_model_is_not_compared_with_itself(decision: Decision) -> None:
    """A rerun finds that the alias points to the version already."""
    found = decision.about(1, lambda before: pytest.fail("compared"))
    assert (found.promoted, found.before, promoted(decision)) == (True, 1, [1])


def test_an_earlier_answer_counts(decision: Decision) -> None:
    """A refusal keeps the alias, a later approval moves it; neither run is paused again."""
    decision.registry.record_answer("heads", answered(False))
    found = decision.about(2, better, approval=True)
    assert (found.promoted, promoted(decision)) == (False, [1])
    assert found.reason.startswith("better than version 1; refused by ")
    assert found.reason.endswith("(seen)")
    decision.registry.record_answer("heads", answered(True))
    assert decision.about(2, better, approval=True).promoted
    assert promoted(decision) == [1, 2]


def test_an_approval_does_not_promote_a_worse_model(decision: Decision) -> None:
    """A person answers about better models alone; `models alias` moves an alias whatever the metrics say."""
    decision.registry.record_answer("heads", answered(True))
    assert not decision.about(2, worse, approval=True).promoted
    assert promoted(decision) == [1]
