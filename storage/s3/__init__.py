"""Access to S3 servers: a client with retries, and locks. Needs obstore, from the extra `s3`."""

from spinmeround.storage.s3.client import ObjectClient, ObjectInfo, RetryPolicy, s3_endpoint
from spinmeround.storage.s3.lock import Waiting, object_lock

__all__ = [
    "ObjectClient",
    "ObjectInfo",
    "RetryPolicy",
    "Waiting",
    "object_lock",
    "s3_endpoint",
]
