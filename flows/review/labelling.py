"""The labelling page of a run, as served by `spinmeround screen label`; it shows no verdict and no score.

Labels are written to the labels file of the run, under its lock, before the request is answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from spinmeround.flows.review.http import Answer
from spinmeround.flows.run.session import Session
from spinmeround.models.screening.verdict import logit
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.heads.score import load_scores
from spinmeround.tasks.heads.verdict_file import verdict_file
from spinmeround.tasks.screening.label_page import LabelPage, render_labelling
from spinmeround.tasks.screening.labels import (
    Labels,
    Mark,
    Order,
    Round,
    finish_labels,
    label_head,
    load_labels,
    random_order,
    uncertain_order,
)
from spinmeround.tasks.screening.review_page import preview_strip, preview_strip_size


class LabelMessage(FrozenModel):
    """The page's label of a head; "none" takes the label back."""

    id: str
    label: Mark | Literal["none"]


class DoneMessage(FrozenModel):
    """The page's message that the person is done."""


@dataclass(frozen=True, kw_only=True)
class LabelBackend:
    """What the labelling page shows and changes: the heads of one round, in the order in which they are shown."""

    session: Session
    round: Round
    heads: Sequence[str]
    sample_keys: Mapping[str, str]
    """Keys of the sample artifacts, which hold the previews, by head id."""
    command: str

    def page(self) -> LabelPage:
        """The page, with the labels that the file holds now."""
        names = list(self.heads)
        file = self.labels()
        shown = {name: file.labels[name] for name in names if name in file.labels and self._counts(file, name)}
        return LabelPage(
            run=self.session.profile.name,
            order=self.round.order,
            heads=names,
            labels=shown,
            strips={name: f"strips/{self.sample_keys[name][:16]}/{name}.webp" for name in names},
            strip_size=preview_strip_size(self._sample(names[0])),
            earlier=len(file.labels.keys() - shown.keys()),
            command=self.command,
        )

    def labels(self) -> Labels:
        """The content of the labels file."""
        return load_labels(self.session.folder.labels, self.session.generator)

    def get(self, path: str) -> Answer | None:
        """The page, or the previews of a head."""
        if path == "/":
            return Answer.page(render_labelling(self.page()))
        if path.startswith("/strips/") and (name := Path(path).stem) in self.heads:
            return Answer.picture(preview_strip(self._sample(name)))
        return None

    def post(self, path: str, body: bytes) -> Answer | None:
        """Save a label, or keep what was passed without a mark."""
        if path == "/labels":
            self.label(LabelMessage.model_validate_json(body))
            return Answer.json({})
        if path == "/done":
            DoneMessage.model_validate_json(body)
            return Answer.json(_counts(finish_labels(self.session.folder.labels, self.session.generator)))
        return None

    def label(self, message: LabelMessage) -> None:
        """Save a label. Raises ConfigError for a head that is not part of the round."""
        if message.id not in self.heads:
            raise ConfigError(f"id: expected a head of this round, found {message.id!r}")
        label_head(self.session.folder.labels, self.session.generator, self.round, message.id, message.label)

    def tally(self) -> dict[str, str]:
        """The number of labels and the command that uses them, by label."""
        found = _counts(self.labels())
        return {
            "labelled": f"{found['labelled']} heads: {found['keep']} keep, {found['drop']} drop; "
            f"{found['random']} of them drawn at random",
            "labels": str(self.session.folder.labels),
            "then": self.command,
        }

    def _counts(self, file: Labels, name: str) -> bool:
        """Whether a label counts in this round: a random sample does not take over labels of an uncertain one."""
        return self.round.order == "uncertain" or file.drawn_at_random(name)

    def _sample(self, name: str) -> Path:
        return self.session.store.open("sample", self.sample_keys[name]).path


def open_labelling(
    session: Session, command: str, *, order: Order, seed: int, count: int, verdict: str
) -> LabelBackend:
    """The backend for up to `count` heads of a run that have no label yet.

    `verdict` is the verdict file that orders an uncertain round. Raises ConfigError if no head is left to label, or
    for an uncertain round without scored heads or without a verdict file.
    """
    labels = load_labels(session.folder.labels, session.generator)
    names = [head.id for head in session.heads if session.has("sample", head)]
    if order == "random":
        digest, ordered = "", random_order(names, labels, seed)
    else:
        digest, distances = _distances(session, names, verdict)
        ordered = uncertain_order(distances, labels)
    if not ordered:
        raise ConfigError(
            f"run folder {session.folder.root}: expected heads with previews and without a label, found none of "
            f"{len(session.heads)}; run 'spinmeround stage sample' with the same options, or raise plan.heads"
        )
    shown = ordered[:count]
    return LabelBackend(
        session=session,
        round=Round(order=order, seed=seed, heads=len(names), began=datetime.now(UTC), verdict=digest),
        heads=shown,
        sample_keys={name: session.keys[name]["sample"] for name in shown},
        command=command,
    )


def _distances(session: Session, names: Sequence[str], verdict: str) -> tuple[str, dict[str, float]]:
    """Fingerprint of the verdict, and the log-odds of each scored head beyond its threshold."""
    learned, digest = verdict_file(verdict)
    keys = {name: session.keys[name]["score"] for name in names}
    scored = [name for name in names if session.store.has("score", keys[name])]
    scores = [load_scores(session.store.verify("score", keys[name]).path) for name in scored]
    found = learned.log_odds(scores) - logit(learned.threshold)
    return digest, dict(zip(scored, map(float, found), strict=True))


def _counts(labels: Labels) -> dict[str, int]:
    found = labels.defective()
    return {
        "labelled": len(found),
        "keep": len(found) - sum(found.values()),
        "drop": sum(found.values()),
        "passed": sum(not labels.labels[name].marked for name in found),
        "random": sum(labels.drawn_at_random(name) for name in found),
    }
