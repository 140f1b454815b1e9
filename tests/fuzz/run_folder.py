"""A run folder with everything that a run leaves, made in this process, and all that a later run reads of it."""

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.flows.dataset import find_dataset
from spinmeround.flows.profile import Profile, validate_profile
from spinmeround.flows.run.folder import Place, open_run
from spinmeround.flows.run.session import Session, plan_session
from spinmeround.flows.run.summary import write_summary
from spinmeround.storage.artifacts import ArtifactStore, check_store, find_garbage
from spinmeround.storage.dataset import HeadDataset, check_content, list_versions, verify
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.evaluation.params import evaluation_key
from spinmeround.tasks.evaluation.run import make_evaluation
from spinmeround.tasks.heads.encode import publish_latents
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.key import training_inputs, training_key
from spinmeround.tasks.training.loop import OnStep
from spinmeround.tasks.training.params import METRICS
from tests.e2e.conftest import TINY
from tests.support.weights import write_autoencoder, write_recognition

ARRAYS = ("rgb", "normals", "mask", "identity_views", "latents/rgb", "latents/normals")
TRAINING = "multi-view"
"""The only phase of the run."""
Values = dict[str, Any]


class _Killed(Exception):
    pass


def _kill_in_the_last_step(done: int, steps: int, loss: float | None) -> None:
    if done == steps:
        raise _Killed


class RunFolder:
    """The run in `root / "runs" / "tiny"`, whose files are links to those of `valid`: nothing writes into a file."""

    def __init__(self, root: Path) -> None:
        weights = {
            "embed": {"recognition": str(write_recognition(root / "recognition.onnx"))},
            "encode": {"autoencoder": str(write_autoencoder(root / "autoencoder"))},
        }
        alone = {name: {**TINY["train"][name], "steps": 0} for name in ("adapt", "single_view")}
        train = {**TINY["train"], **alone, "threads": 1, "checkpoint_every": 1}
        self.profile: Profile = validate_profile({**TINY, **weights, "train": train}, source="test")
        self.place = Place(runs=str(root / "runs"))
        self.path, self.valid = root / "runs" / "tiny", root / "valid"
        self.build()
        shutil.copytree(self.path, self.valid, copy_function=os.link)
        self.files = sorted(path.relative_to(self.path) for path in self.path.rglob("*") if path.is_file())

    @property
    def dataset(self) -> Path:
        return next((self.path / "datasets").glob("*.zarr"))

    @property
    def checkpoints(self) -> Path:
        return self.path / "training"

    def session(self) -> Session:
        return plan_session(self.profile, self.place)

    def restore(self) -> None:
        """The folder as it was, with its hard links."""
        shutil.rmtree(self.path)
        shutil.copytree(self.valid, self.path, copy_function=os.link)

    def flip(self, name: Path, bit: int) -> None:
        """Flip a bit as a failing disk does: in all hard links of the file in the run, whose time stays."""
        source = self.valid / name
        data = bytearray(source.read_bytes())
        data[bit // 8] ^= 1 << bit % 8
        inode, damaged = source.stat().st_ino, self.path / name
        damaged.unlink()
        damaged.write_bytes(data)
        shutil.copystat(source, damaged)
        for other in self.files:
            if other != name and (self.valid / other).stat().st_ino == inode:
                (self.path / other).unlink()
                os.link(damaged, self.path / other)

    def build(self) -> None:
        """Every stage, the dataset with its latents, a training with two checkpoints, the evaluation, the summary."""
        open_run(self.place, self.profile.name)
        session = self.session()
        session.register()
        for stage in HEAD_STAGES:
            for head in session.heads:
                self.make(session, stage.name, head.id)
        found = find_dataset(session)
        self.train_leaving_checkpoints(session, self.add_latents(session))
        result = self.evaluate(session)
        session.results["training"] = {"stage": TRAINING, "key": self.training_key(session)}
        session.results["evaluation"] = {"key": self.evaluation_key(session), **result}
        assert verify(found.path) == []
        write_summary(session.result())
        session.pool.close()

    def make(self, session: Session, stage: str, head: str) -> None:
        """One artifact, from its inputs in the store."""
        bound, keys = session.stages[stage], session.keys[head]
        bound.make(session.store, session.by_id[head], {name: keys[name] for name in bound.stage.inputs})

    def add_latents(self, session: Session) -> Path:
        found = find_dataset(session)
        keys = {head.id: session.keys[head.id]["encode"] for head in session.census()[0]}
        folders = {id: session.store.verify("encode", key).path for id, key in keys.items()}
        publish_latents(found.path, folders, self.profile.encode)
        return found.path

    def train_leaving_checkpoints(self, session: Session, dataset: Path) -> None:
        """Train, with the checkpoints of a training that was killed in its last step beside the result."""
        with suppress(_Killed):
            self.train(session, dataset, _kill_in_the_last_step)
        kept = shutil.copytree(self.checkpoints, self.path.parent / "checkpoints")
        self.train(session, dataset)
        shutil.copytree(kept, self.checkpoints, dirs_exist_ok=True)
        shutil.rmtree(kept)

    def train(self, session: Session, dataset: Path, on_step: OnStep = lambda done, steps, loss: None) -> Values:
        """The result of the training, and the checksums of its files but the measured times."""
        store = ArtifactStore(session.folder.store)
        arguments = (self.profile.train, self.profile.encode, session.folder.training)
        _, key, result = make_training(store, dataset, *arguments, on_step)
        files = store.verify(TRAINING, key).manifest.files
        checksums = {name: record.sha256 for name, record in files.items() if name != METRICS}
        return {**asdict(result), "pipeline": "", "files": checksums}

    def training_key(self, session: Session) -> str:
        return training_key(training_inputs(HeadDataset.open(self.dataset)), self.profile.train, self.profile.encode)

    def evaluation_key(self, session: Session) -> str:
        digest = HeadDataset.open(self.dataset).digest
        trained = {TRAINING: self.training_key(session)}
        return evaluation_key(digest, trained, self.profile.evaluate, self.profile.embed)

    def evaluate(self, session: Session) -> Values:
        store, trained = ArtifactStore(session.folder.store), {TRAINING: self.training_key(session)}
        return asdict(make_evaluation(store, self.dataset, trained, self.profile.evaluate, self.profile.embed)[2])


def loaded(run: RunFolder) -> Values:
    """Everything that a loader can read of the dataset."""
    dataset = HeadDataset.open(run.dataset)
    found: Values = {"ids": repr((dataset.ids, dict(dataset.attributes), dataset.latents_attributes()))}
    found["splits"] = [dataset.split(name) for name in ("train", "validation", "test")]
    found |= {"identities": dataset.identities.tobytes(), "seeds": dataset.seeds.tobytes()}
    for subject in range(len(dataset)):
        found |= {f"{name} {subject}": each.tobytes() for name, each in dataset.cameras(subject).items()}
        views = dataset.read_views(subject, range(dataset.views), ARRAYS)
        found |= {f"{name} {subject}": np.ascontiguousarray(each).tobytes() for name, each in views.items()}
    return found


def resumed(run: RunFolder) -> Values:
    """The result of a training that resumes from the newest checkpoint, since the store has none."""
    session = run.session()
    _discard(session, TRAINING, run.training_key(session))
    return run.train(session, run.dataset)


def reused(run: RunFolder) -> Values:
    """What a second run takes from the first: dataset, training, evaluation."""
    session = run.session()
    found = find_dataset(session)
    return {
        "digest": found.digest,
        "training": run.train(session, found.path),
        "evaluation": run.evaluate(session),
    }


def joined_again(run: RunFolder) -> Values:
    """The dataset with its latents, joined from the artifacts of the heads."""
    shutil.rmtree(run.path / "datasets")
    session = run.session()
    path = run.add_latents(session)
    dataset = HeadDataset.open(path)
    return {"digest": dataset.digest, "latents": dataset.latents_digest}


def evaluated_again(run: RunFolder) -> Values:
    """The evaluation of the trained pipeline."""
    session = run.session()
    _discard(session, "evaluate", run.evaluation_key(session))
    return run.evaluate(session)


def remade(run: RunFolder, stage: str, head: str) -> Values:
    """The artifacts of a head that are made from the one of this stage."""
    session, found = run.session(), {}
    for each in HEAD_STAGES:
        if stage in each.inputs and session.store.has(each.name, key := session.keys[head][each.name]):
            _discard(session, each.name, key)
            run.make(session, each.name, head)
            files = session.store.verify(each.name, key).manifest.files
            found[each.name] = {name: record.sha256 for name, record in files.items()}
    return found


def versions(run: RunFolder) -> Values:
    """The index of the datasets in a folder."""
    return {"versions": repr(list_versions(run.path / "datasets"))}


def kept(run: RunFolder) -> Values:
    """What a garbage collection would remove."""
    garbage = find_garbage(ArtifactStore(run.session().folder.store), -3600.0)
    return {"dead": sorted(item.key for item in garbage.dead)}


def dataset_is_verified(run: RunFolder) -> bool:
    """Whether `dataset verify` finds nothing."""
    return not verify(run.dataset, threads=1)


def dataset_is_checked(run: RunFolder) -> bool:
    """Whether the pass before a training finds nothing, where none has read the dataset before."""
    (run.dataset.parent / f".{run.dataset.name}.checked").unlink(missing_ok=True)
    try:
        check_content(HeadDataset.open(run.dataset), threads=1)
    except SpinMeRoundError:
        return False
    return True


def store_is_verified(run: RunFolder) -> bool:
    """Whether `store verify` finds nothing."""
    return not check_store(ArtifactStore(run.session().folder.store), fresh=True).problems


def _discard(session: Session, stage: str, key: str) -> None:
    session.store.backend.remove(stage, key)


def head_and_stage(run: RunFolder, name: Path) -> tuple[str, str]:
    """The stage and the head of a file of the store."""
    manifest = json.loads((run.valid / Path(*name.parts[:4]) / "manifest.json").read_bytes())
    return manifest["stage"], manifest["subject"]
