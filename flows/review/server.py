"""The review page of a run, written as one file or served (`flows.review.http`).

Each decision is written to the file, under its lock, before the request is answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field

from spinmeround.flows.review.http import Answer
from spinmeround.flows.run.session import Session
from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.heads.verdict_file import verdict_file
from spinmeround.tasks.pictures.webp import webp_uri
from spinmeround.tasks.screening.decisions import (
    Choice,
    is_reviewed,
    load_decisions,
    mark_reviewed,
    record_unless_newer,
    review_digest,
)
from spinmeround.tasks.screening.explanation import map_of, map_strip
from spinmeround.tasks.screening.review_page import (
    PROBABILITY,
    Limit,
    ReviewPage,
    limits_of,
    preview_strip,
    preview_strip_size,
    render_review,
)


class DecisionMessage(FrozenModel):
    """The page's decision on a head; `seen` is the time of the decision that the page showed before, if any."""

    id: str
    decision: Choice
    note: str = Field("", max_length=2000)
    seen: AwareDatetime | None = None


class ReviewedMessage(FrozenModel):
    """The page's message that the verdicts of this digest are reviewed."""

    digest: str


@dataclass(frozen=True, kw_only=True)
class ReviewBackend:
    """What the review page shows and changes; `command` is the command that continues the run afterwards."""

    session: Session
    verdicts: dict[str, Verdict]
    sample_keys: Mapping[str, str]
    """Keys of the sample artifacts, which hold the previews, by head id."""
    score_keys: Mapping[str, str]
    """Keys of the score artifacts, which hold the maps of scores, by head id."""
    command: str

    @cached_property
    def digest(self) -> str:
        """Digest of the verdicts under review."""
        return review_digest(self.verdicts)

    @cached_property
    def storage_key(self) -> str:
        """Identifies this run among all runs on all machines: its marker file holds its time of creation."""
        session = self.session
        return sha256_json([str(session.decisions_file), session.folder.marker.read_text(encoding="utf-8")])[:16]

    def page(self, *, served: bool) -> ReviewPage:
        """The page, with the decisions that the file holds now."""
        session, names = self.session, list(self.verdicts)
        return ReviewPage(
            run=session.profile.name,
            storage_key=self.storage_key,
            verdicts=self.verdicts,
            decisions=load_decisions(session.decisions_file, session.generator),
            strips={name: f"strips/{self.sample_keys[name][:16]}/{name}.webp" for name in names},
            maps={name: self._maps(name) for name in names} if served else {},
            strip_size=preview_strip_size(self._sample(names[0])),
            limits={**limits_of(session.profile.screen.limits), **self._threshold()},
            digest=self.digest,
            command=self.command,
            unscreened=len(session.heads) - len(names),
            served=served,
        )

    def strip(self, name: str) -> bytes:
        """The previews of a head in one row, as WebP."""
        return preview_strip(self._sample(name))

    def write(self, to: Path) -> None:
        """Write the page as one self-contained file."""
        page = replace(self.page(served=False), strips={name: webp_uri(self.strip(name)) for name in self.verdicts})
        with environment_errors(to):
            write_atomic(to.absolute(), render_review(page).encode())

    def decide(self, message: DecisionMessage) -> dict[str, Any]:
        """Save a decision unless the file has a newer one than the page showed; returns the decision in the file.

        Raises ConfigError for an unknown head.
        """
        if message.id not in self.verdicts:
            raise ConfigError(f"id: expected a head of this run, found {message.id!r}")
        new, session = (message.decision, message.note), self.session
        saved = record_unless_newer(session.decisions_file, session.generator, message.id, new, message.seen)
        return {"decision": saved.model_dump(mode="json"), "taken": (saved.decision, saved.note) == new}

    def reviewed(self, message: ReviewedMessage) -> None:
        """Mark the verdicts as reviewed. Raises ConfigError if the page shows other verdicts."""
        if message.digest != self.digest:
            raise ConfigError("this page shows other verdicts than its server; reload it")
        mark_reviewed(self.session.decisions_file, self.session.generator, self.digest)

    def get(self, path: str) -> Answer | None:
        """The page, the decisions in the file, or the previews of a head."""
        if path == "/":
            return Answer.page(render_review(self.page(served=True)))
        if path == "/decisions":
            return Answer.json(
                load_decisions(self.session.decisions_file, self.session.generator).model_dump(mode="json")
            )
        if path.startswith("/strips/") and (name := Path(path).stem) in self.verdicts:
            return Answer.picture(self.strip(name))
        if path.startswith("/maps/"):
            return self._map(Path(path))
        return None

    def post(self, path: str, body: bytes) -> Answer | None:
        """Save a decision, or mark the verdicts as reviewed."""
        if path == "/decisions":
            return Answer.json(self.decide(DecisionMessage.model_validate_json(body)))
        if path == "/reviewed":
            self.reviewed(ReviewedMessage.model_validate_json(body))
            return Answer.json({})
        return None

    def tally(self) -> dict[str, str]:
        """Progress of the review and the command that continues the run, by label."""
        session = self.session
        file = load_decisions(session.decisions_file, session.generator)
        names = self.verdicts or [head.id for head in session.heads]
        decisions = [file.active().get(name) for name in names]
        keep, drop = decisions.count("keep"), decisions.count("drop")
        done = ", reviewed" if self.verdicts and is_reviewed(self.verdicts, file) else ""
        return {
            "decided": f"{keep + drop} of {len(decisions)} heads: {keep} keep, {drop} drop{done}",
            "decisions": str(session.decisions_file),
            "continue": self.command,
        }

    def _maps(self, name: str) -> dict[str, str]:
        """URLs of the maps of a head's reasons, by score."""
        key = self.score_keys[name][:16]
        return {score: f"maps/{key}/{score}/{name}.webp" for score in self.verdicts[name].reasons if map_of(score)}

    def _map(self, path: Path) -> Answer | None:
        name, kind = path.stem, map_of(path.parent.name)
        if kind is None or name not in self.verdicts:
            return None
        scores = self.session.store.open("score", self.score_keys[name]).path
        found = map_strip(self._sample(name), scores, kind)
        return None if found is None else Answer.picture(found)

    def _threshold(self) -> dict[str, Limit]:
        learned = self.session.profile.screen.verdict
        return {PROBABILITY: (None, verdict_file(learned)[0].threshold)} if learned else {}

    def _sample(self, name: str) -> Path:
        return self.session.store.verify("sample", self.sample_keys[name]).path


def open_review(session: Session, command: str, *, may_be_empty: bool = False) -> ReviewBackend:
    """The backend for the screened heads of a run. Raises ConfigError if no head is screened, unless `may_be_empty`."""
    verdicts = session.screen_verdicts()
    if not verdicts and not may_be_empty:
        raise ConfigError(
            f"run folder {session.folder.root}: expected heads screened with these parameters, found none; "
            "run 'spinmeround stage NAME' for sample, score and screen with the same options first"
        )
    sample_keys, score_keys = ({name: session.keys[name][stage] for name in verdicts} for stage in ("sample", "score"))
    return ReviewBackend(
        session=session, verdicts=verdicts, sample_keys=sample_keys, score_keys=score_keys, command=command
    )
