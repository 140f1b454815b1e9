"""The review page's server: who may read and decide, and errors at its start."""

import http.client
import json

import pytest

from spinmeround.flows.review.http import page_server
from spinmeround.flows.review.server import open_review
from spinmeround.flows.run.folder import Place
from spinmeround.storage.errors import ConfigError
from tests.e2e.review.screened_run import PROFILE, decisions, run_of
from tests.support.waiting import LIMIT_S


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, {"id": "tiny-000001", "decision": "drop"}, 200),
        ({"Origin": "http://evil.example"}, {"id": "tiny-000001", "decision": "drop"}, 403),
        ({"Origin": "null"}, {"id": "tiny-000001", "decision": "drop"}, 403),
        ({"Host": "evil.example"}, {"id": "tiny-000001", "decision": "drop"}, 403),
        ({"Content-Type": "text/plain"}, {"id": "tiny-000001", "decision": "drop"}, 403),
        ({}, {"id": "tiny-000001", "decision": "drop", "note": "x" * 20_000}, 403),
        ({}, {"id": "tiny-000001", "decision": "perhaps"}, 400),
        ({}, {"id": "tiny-000999", "decision": "drop"}, 409),
    ],
    ids=["own page", "other site", "sandbox", "DNS rebinding", "form", "too large", "invalid", "unknown head"],
)
def test_only_the_page_may_decide(backend, port, headers, body, status):
    """A decision must be JSON from the server's own page, about a head of the run."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    connection.request("POST", "/decisions", json.dumps(body), {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    assert answer.status == status, answer.read()
    connection.close()
    assert decisions(backend) == ({"01": "drop"} if status == 200 else {})


def test_reading_needs_the_servers_name(port):
    """Requests under another host name are rejected; the server has only the page, its strips and the decisions."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    for path, host, status in [
        ("/", "evil.example", 403),
        ("/strips/0/tiny-000001.webp", f"localhost:{port}", 200),
        ("/strips/0/../../run.json", f"127.0.0.1:{port}", 404),
        ("/run.json", f"127.0.0.1:{port}", 404),
    ]:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        assert (path, answer.status) == (path, status)
        answer.read()
    connection.close()


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("corners", "/maps/0/clipped_volume/tiny-000003.webp", 200),
        ("corners", "/maps/0/clipped_volume/tiny-000999.webp", 404),
        ("edges", "/maps/0/clipped_volume/tiny-000003.webp", 404),
        (None, "/maps/0/clipped_volume/tiny-000003.webp", 404),
    ],
    ids=["map", "unknown head", "no such map", "score without a map"],
)
def test_maps_of_reasons(port, backend, monkeypatch, name, path, status):
    """A reason whose score has a map links to it; the page names no other maps."""
    monkeypatch.setattr("spinmeround.flows.review.server.map_of", lambda score: name)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, answer.read()[:4] == b"RIFF") == (status, status == 200)
    connection.close()
    linked = {head for head, maps in backend.page(served=True).maps.items() if maps}
    assert linked == (set() if name is None else {"tiny-000003", "tiny-000007", "tiny-000011"})


def test_nothing_to_review_and_a_port_in_use(backend, port, tmp_path):
    """Both errors say what to do."""
    empty = Place(runs=str(tmp_path))
    with run_of(PROFILE, empty) as session, pytest.raises(ConfigError, match="run 'spinmeround stage NAME'"):
        open_review(session, "")
    with pytest.raises(ConfigError, match=f"--port {port}: cannot listen there"):
        page_server(backend, port)
