"""Requests to a server that is gone are not repeated."""

import time
from contextlib import ExitStack

import pytest
from prefect import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_RETRY_JITTER_FACTOR,
    temporary_settings,
)

from spinmeround.flows.server.network import ServerUnavailable, server_errors
from spinmeround.flows.server.patience import limited_patience
from spinmeround.flows.server.process import api_of, free_port
from tests.flows.server.test_process import answering
from tests.support.waiting import until

pytestmark = pytest.mark.fast
SETTINGS = {PREFECT_CLIENT_MAX_RETRIES: 10, PREFECT_CLIENT_RETRY_JITTER_FACTOR: 0}


def test_requests_to_a_server_that_is_gone_are_not_repeated() -> None:
    """A request that has been repeated ends, and the command says that the server is gone."""
    with ExitStack() as server:
        api = server.enter_context(answering(200))
        with temporary_settings({**SETTINGS, PREFECT_API_URL: api}):
            with limited_patience(api, gone_s=0.5, every_s=0.05), get_client(sync_client=True) as client:
                client.hello()
                server.close()
                with pytest.raises(ServerUnavailable, match="does not answer any more"), server_errors():
                    client.hello()
                assert PREFECT_CLIENT_MAX_RETRIES.value() == 0
            assert PREFECT_CLIENT_MAX_RETRIES.value() == 10


def test_a_server_that_never_answered_here_is_left_to_prefect() -> None:
    """It may be reached by a proxy alone."""
    with temporary_settings(SETTINGS), limited_patience(api_of(free_port()), gone_s=0.0, every_s=0.001):
        time.sleep(0.1)
        assert PREFECT_CLIENT_MAX_RETRIES.value() == 10


def test_patience_returns_with_the_server() -> None:
    """A server that is busy for longer than that, and then answers, is waited for again."""
    with (
        temporary_settings(SETTINGS),
        answering(200, *[503] * 200, 200) as api,
        limited_patience(api, gone_s=0.02, every_s=0.01),
    ):
        until(lambda: PREFECT_CLIENT_MAX_RETRIES.value() == 0, interval_s=0.005)
        until(lambda: PREFECT_CLIENT_MAX_RETRIES.value() == 10, interval_s=0.005)
