"""Fixtures of all tests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from tests.support.s3 import S3Server


@pytest.fixture(scope="session")
def s3() -> Iterator["S3Server"]:
    """An S3-compatible server with an empty bucket."""
    from tests.support.s3 import S3Server

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3_prefix() -> str:
    """A part of the bucket for one test."""
    return uuid4().hex
