"""Waiting for the server's records never raises, so it never hides the error of a run."""

from datetime import UTC, datetime

import httpx
import pytest

from spinmeround.flows.server import recording

ERRORS = [
    ImportError("Using SOCKS proxy, but the 'socksio' package is not installed"),
    httpx.ConnectError("refused"),
    RuntimeError("the worker has stopped"),
    ValueError("Unknown scheme for proxy URL"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_nothing_hides_the_error_of_a_run(error, monkeypatch):
    """Whatever the client, the events or the logs raise, the error of the run arrives."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(recording, "get_client", fail)
    monkeypatch.setattr(recording.EventsWorker, "drain_all", fail)
    monkeypatch.setattr(recording.APILogWorker, "drain_all", fail)

    def run() -> None:
        try:
            raise KeyError("the run's own")
        finally:
            recording.wait_until_recorded(datetime.now(UTC))

    with pytest.raises(KeyError, match="the run's own"):
        run()
    recording.wait_until_recorded(datetime.now(UTC))
