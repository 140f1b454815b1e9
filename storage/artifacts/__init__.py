"""The artifact store: results of the stages, addressed by everything that decides their content.

`ArtifactStore` keeps artifacts in a local folder or on an S3 server, and its `make_once` makes each of them once.
`ModelRegistry` names trained models in a store. Records of the runs that use a store, checks, listings and garbage
collection work on all artifacts of a store. The S3 backend is imported when a store's root is a URL.
"""

from spinmeround.storage.artifacts.check import ArtifactProblem, StoreCheck, check_store, set_aside_damaged
from spinmeround.storage.artifacts.failures import Failure
from spinmeround.storage.artifacts.gc import Garbage, find_garbage, remove_garbage
from spinmeround.storage.artifacts.key import artifact_key
from spinmeround.storage.artifacts.manifest import MANIFEST, SCHEMA_VERSION, Manifest, parse_manifest
from spinmeround.storage.artifacts.models import (
    AliasMoved,
    Answer,
    ModelRegistry,
    ModelVersion,
    RegisteredModel,
    Stamp,
    stamp,
)
from spinmeround.storage.artifacts.run_results import last_reconstruction
from spinmeround.storage.artifacts.runs import (
    FINAL_STAGES,
    RunRecord,
    forget_run,
    register_run,
    registered_runs,
)
from spinmeround.storage.artifacts.store import Artifact, ArtifactStore, Outcome, is_url
from spinmeround.storage.artifacts.survey import StoredArtifact, Survey, survey_store

__all__ = [
    "FINAL_STAGES",
    "MANIFEST",
    "SCHEMA_VERSION",
    "AliasMoved",
    "Answer",
    "Artifact",
    "ArtifactProblem",
    "ArtifactStore",
    "Failure",
    "Garbage",
    "Manifest",
    "ModelRegistry",
    "ModelVersion",
    "Outcome",
    "RegisteredModel",
    "RunRecord",
    "Stamp",
    "StoreCheck",
    "StoredArtifact",
    "Survey",
    "artifact_key",
    "check_store",
    "find_garbage",
    "forget_run",
    "is_url",
    "last_reconstruction",
    "parse_manifest",
    "register_run",
    "registered_runs",
    "remove_garbage",
    "set_aside_damaged",
    "stamp",
    "survey_store",
]
