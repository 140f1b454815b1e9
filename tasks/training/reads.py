"""What a training reads: heads of a dataset, or prepared pictures of faces."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.storage.dataset import HeadDataset, check_content
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_fingerprint
from spinmeround.tasks.training.by_phase import phase_batches
from spinmeround.tasks.training.data.batches import StepBatches
from spinmeround.tasks.training.data.statistics import Statistics, head_statistics
from spinmeround.tasks.training.faces.pictures import FacePictures, PreparedFaces
from spinmeround.tasks.training.faces.plan import face_inputs
from spinmeround.tasks.training.key import training_inputs
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.observation.samples import Samples
from spinmeround.tasks.training.observation.validation import Validation
from spinmeround.tasks.training.output.result import as_pipeline
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.params import TrainParams


@dataclass(frozen=True, kw_only=True)
class TrainingReads:
    """The batches of a training, its validation and its samples, which pictures of faces have none of; `inputs` name
    what they read. `statistics` are those of its latents."""

    inputs: dict[str, str]
    batches: StepBatches
    validation: Validation | None = None
    samples: Samples | None = None
    statistics: Callable[[], Statistics] | None = None

    def normalising(self, networks: Networks) -> Networks:
        """The networks with the statistics of these latents, unless they have none or have brought their own."""
        found = isinstance(networks.unet, MultiviewUNet) and networks.unet.statistics
        if found and found.is_identity and self.statistics is not None:
            found.set(*self.statistics())
        return networks


def read_heads(dataset: Path, params: TrainParams, encode: EncodeParams, processes: Processes) -> TrainingReads:
    """Collective: the heads of the split `train`.

    Raises DatasetError if the dataset has no latents of this autoencoder, no head to train on or a damaged file.
    """
    data = HeadDataset.open(dataset)
    subjects = _training_subjects(data, encode)
    with processes.first_before_others():
        check_content(data)
    return TrainingReads(
        inputs=training_inputs(data),
        batches=phase_batches(data, subjects, params, encode, processes.share),
        validation=Validation(data, params, encode, processes) if params.validation.every else None,
        samples=_samples(data, params, encode, processes),
        statistics=cache(lambda: head_statistics(data, subjects, params, encode)),
    )


def _samples(data: HeadDataset, params: TrainParams, encode: EncodeParams, processes: Processes) -> Samples | None:
    """The samples of a phase of several views, if any are wanted."""
    if not params.samples.every or params.name == "adapt":
        return None
    return Samples(data, params, processes, lambda networks: as_pipeline(networks, params, encode))


def read_faces(faces: PreparedFaces, params: TrainParams, processes: Processes) -> TrainingReads:
    """Prepared pictures. Raises SpinMeRoundError if too many of their source can't be used."""
    return TrainingReads(inputs=face_inputs(faces.keys), batches=FacePictures(faces.folders, params, processes.share))


def _training_subjects(data: HeadDataset, encode: EncodeParams) -> list[int]:
    """The heads to train on; raises if the training cannot start on this dataset."""
    attributes = data.latents_attributes()
    found, expected = str(attributes.get("autoencoder")), autoencoder_fingerprint(encode)
    if found != expected:
        raise DatasetError(
            f"{data.path}: latents: expected those of the autoencoder {expected[:12]}, found {found[:12]}; "
            "run the stage encode"
        )
    if (frame := attributes.get("normals_frame", "world")) != encode.stored_frame:
        raise DatasetError(
            f"{data.path}: latents: expected normals in the frame {encode.stored_frame!r}, found {frame!r}; run the "
            "stage encode, or set encode.normals_frame"
        )
    subjects = data.split("train")
    if not subjects:
        raise DatasetError(f"{data.path}: expected a head in the split 'train', found none; build more heads")
    return subjects
