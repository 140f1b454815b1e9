"""The trainings of a profile in order, with their keys, before any of them is made. Imports no networks."""

from collections.abc import Sequence
from dataclasses import dataclass

from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.faces.plan import face_inputs
from spinmeround.tasks.training.key import export_key, training_inputs, training_key
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import PhaseName


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """One phase with its key; `begins` has the phase and the key of the training that it begins with, if any.

    `faces` are the keys of its pictures, if it does not train on the heads. Without steps it is the pipeline of the
    networks of `train.initial`.
    """

    name: PhaseName
    params: TrainParams
    key: str
    begins: dict[str, str]
    faces: tuple[str, ...] = ()


def plan_trainings(
    data: HeadDataset | None, params: TrainParams, encode: EncodeParams, faces: Sequence[str] = ()
) -> list[PlannedTraining]:
    """The phases that have steps, in order; the first begins with `train.initial`. Without any, one pipeline of it.

    `faces` are the keys of the pictures of `adapt`; without phases that read heads, `data` may be None.

    Raises ConfigError if there are neither steps nor initial networks, or these are missing, and DatasetError for a
    dataset without latents.
    """
    if not params.trained:
        return [PlannedTraining(name="multi-view", params=params, key=export_key(params, encode), begins={})]
    found: list[PlannedTraining] = []
    for name in params.trained:
        alone = params.only(name)
        begins: dict[str, str] = {found[-1].name: found[-1].key} if found else {}
        pictures = tuple(faces) if name == "adapt" else ()
        key = training_key({**_reads(data, pictures), **begins}, alone, encode)
        found.append(PlannedTraining(name=name, params=alone, key=key, begins=begins, faces=pictures))
    return found


def _reads(data: HeadDataset | None, pictures: Sequence[str]) -> dict[str, str]:
    if pictures:
        return face_inputs(pictures)
    assert data is not None
    return training_inputs(data)
