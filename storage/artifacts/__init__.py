"""The artifact store: results of the stages, addressed by everything that decides their content.

`ArtifactStore` keeps artifacts in a local folder or on an S3 server, `make_once` makes each exactly once. Listing,
checking and garbage collection work on a store from the outside.
"""

from spinmeround.storage.artifacts.manifest import MANIFEST, SCHEMA_VERSION, Manifest, artifact_key
from spinmeround.storage.artifacts.store import Artifact, ArtifactStore, Outcome

__all__ = ["MANIFEST", "SCHEMA_VERSION", "Artifact", "ArtifactStore", "Manifest", "Outcome", "artifact_key"]
