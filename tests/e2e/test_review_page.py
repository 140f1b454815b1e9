"""The review page in a real browser against its real server: keys, reloads, two tabs, and who may not decide."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from spinmeround.flows.cli.options import RunOptions
from spinmeround.flows.cli.review import review
from spinmeround.flows.profile import Profile, validate_profile
from spinmeround.flows.review.server import ReviewBackend, open_review, review_server
from spinmeround.flows.run.folder import Place, open_run
from spinmeround.flows.run.session import Session, view_session
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.screening.decisions import (
    Decision,
    Decisions,
    is_reviewed,
    load_decisions,
    merge_decisions,
    record,
)
from tests.e2e.conftest import TINY
from tests.tasks.report.test_browser import CHROMIUM, DESKTOP, FLAGS

HEADS = 12
VALUES = {
    **TINY,
    "score": {"cells": 32},
    "plan": {"heads": HEADS},
    "generator": {"name": "tests.support.tiny:make", "options": {"clipped": [3]}},
    "render": {"resolution": 32},  # the embedded autoencoder makes 4 x 4 latents of it
    "train": {**TINY["train"], "unet": {**TINY["train"]["unet"], "latent_channels": 32}},
}
PROFILE = validate_profile(VALUES, source="test")


def put(session: Session, stage: str, head: Any, files: dict[str, Any]) -> None:
    """An artifact as the stage would have made it, but of these files."""
    keys, made = session.keys[head.id], session.stages[stage]
    inputs = {name: keys[name] for name in made.stage.inputs}
    with session.store.commit(
        stage,
        keys[stage],
        version=made.stage.version,
        params=made.identity(head),
        inputs=inputs,
        weights=made.weights,
        subject=head.id,
    ) as out:
        for name, content in files.items():
            if name.endswith(".npz"):
                np.savez(out / name, **content)
            else:
                (out / name).write_text(json.dumps(content))


def screen_all(session: Session) -> None:
    """Previews and verdicts of all heads: every fourth one is dropped, the score falls with the seed."""
    for head in session.heads:
        rgb = np.full((4, 16, 16, 3), 6 * head.seed, np.uint8)
        angles = {"azimuth": np.arange(4) * 90.0, "elevation": np.zeros(4)}
        put(
            session,
            "sample",
            head,
            {"preview.npz": {"rgb": rgb, "mask": np.full((4, 16, 16), 255, np.uint8), **angles}},
        )
        keep = head.seed % 4 != 3
        scores = {"clipped_volume": 1.0 - head.seed / HEADS, "depth_to_width": 1.0}
        reasons = [] if keep else ["clipped_volume"]
        put(session, "score", head, {"scores.json": scores})
        put(session, "screen", head, {"verdict.json": {"keep": keep, "reasons": reasons, "scores": scores}})


@contextmanager
def run_of(profile: Profile, place: Place) -> Iterator[Session]:
    """A run whose folder is made and which is looked at."""
    open_run(place, profile.name)
    with view_session(profile, place) as session:
        yield session


@pytest.fixture(scope="module")
def screened(tmp_path_factory) -> Iterator[ReviewBackend]:
    """The backend of a screened run, made once."""
    with run_of(PROFILE, Place(runs=str(tmp_path_factory.mktemp("runs")))) as session:
        screen_all(session)
        yield open_review(session, "spinmeround build --profile tiny")


@pytest.fixture
def backend(screened) -> ReviewBackend:
    """The backend, with nothing decided."""
    screened.session.decisions_file.unlink(missing_ok=True)
    return screened


@pytest.fixture(scope="module")
def port(screened) -> Iterator[int]:
    """Where the backend's page is served."""
    with serving(screened) as port:
        yield port


@contextmanager
def serving(backend: ReviewBackend, port: int = 0) -> Iterator[int]:
    """The page's server, as the command has it."""
    with review_server(backend, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt install chromium)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def rulings(backend: ReviewBackend) -> dict[str, str]:
    """The decisions on the disk, by seed."""
    found = load_decisions(backend.session.decisions_file, backend.session.generator).rulings()
    return {name.removeprefix("tiny-0000"): ruling for name, ruling in found.items()}


class Tab:
    """An open page, and everything that it complained of."""

    def __init__(self, context, address: str) -> None:
        self.complaints: list[str] = []
        self.page = context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait(self, condition: str) -> None:
        """Until the expression holds; asked from outside, since the page's policy forbids Playwright's own waiting."""
        for _ in range(400):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(25)
        pytest.fail(f"still not so after 10 s: {condition}; {self.page.locator('#saved').inner_text()}")

    def saved(self) -> None:
        """Until nothing waits to be saved."""
        self.wait("localStorage.length === 0")

    def current(self) -> str:
        return self.page.locator('.row[aria-current="true"]').get_attribute("data-id").removeprefix("tiny-0000")

    def shown(self) -> list[str]:
        rows = self.page.evaluate(
            "[...document.querySelectorAll('.row')].map((row) => [row.offsetTop, row.dataset.id])"
        )
        return [name.removeprefix("tiny-0000") for _, name in sorted(rows)]


@pytest.fixture
def context(browser):
    """A browser that remembers nothing yet."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    yield context
    context.close()


def test_keys_decide_and_the_file_agrees(context, backend, port):
    """Every key does what the page says, each decision is on the disk at once, and a reload shows it."""
    tab = Tab(context, f"http://127.0.0.1:{port}")
    assert (tab.current(), rulings(backend)) == ("00", {})
    tab.press("y", "n", "ArrowDown", "y")
    tab.saved()
    assert rulings(backend) == {"00": "keep", "01": "drop", "03": "keep"}
    assert tab.current() == "04"
    tab.press("u")
    tab.saved()
    assert (tab.current(), rulings(backend)) == ("03", {"00": "keep", "01": "drop"})
    tab.press("k", "k", "c", "End", "n", "Home")
    tab.saved()
    assert rulings(backend) == {"00": "keep", "11": "drop"}
    tab.press("e")
    tab.page.keyboard.type("yn, a fine nose")
    tab.press("Enter")
    tab.saved()
    tab.page.reload()
    assert tab.page.locator('.row[data-id="tiny-000000"] .note').input_value() == "yn, a fine nose"
    assert "12 heads, 9 kept, 3 dropped, 2 decided by you" in tab.page.locator("#progress").inner_text()
    assert load_decisions(backend.session.decisions_file, backend.session.generator).decisions["tiny-000000"].note
    assert tab.complaints == []


def test_filters_and_order(context, backend, port):
    """A filter shows just its heads, with their number; a score sorts both ways; the row says why, with the limit."""
    tab = Tab(context, f"http://127.0.0.1:{port}")
    tab.page.set_viewport_size({"width": 1280, "height": 3000})
    tab.page.locator('[data-filter="dropped"]').click()
    assert tab.shown() == ["03", "07", "11"]
    tab.page.locator("#sort").select_option("clipped_volume")
    tab.page.locator("#order").click()
    assert tab.shown() == ["11", "07", "03"]
    failing = tab.page.locator('.row[data-id="tiny-000011"] .failing').inner_text()
    assert " ".join(failing.split()) == "clipped volume 0.0833 (≤ 0)"
    tab.press("y")
    tab.page.locator('[data-filter="overruled"]').click()
    assert tab.shown() == ["11"]
    tab.page.locator('[data-filter="all"]').click()
    tab.page.locator("#search").fill("-00001")
    assert sorted(tab.shown()) == ["10", "11"]
    tab.saved()


def test_two_tabs_and_a_lost_server(context, backend):
    """Tabs keep each other's decisions and see them; what a lost server did not get is saved when one is back."""
    with serving(backend) as port:
        first, second = (Tab(context, f"http://127.0.0.1:{port}") for _ in range(2))
        first.press("n", "n")
        second.press("j", "j", "y")
        first.saved()
        second.saved()
        assert rulings(backend) == {"00": "drop", "01": "drop", "02": "keep"}
        for tab in (first, second):
            tab.page.evaluate("dispatchEvent(new Event('focus'))")
            tab.wait("document.getElementById('progress').textContent.includes('3 decided')")
    first.press("n")
    second.press("n")
    first.wait("document.getElementById('saved').textContent.includes('1 not saved yet')")
    second.page.close()
    assert rulings(backend) == {"00": "drop", "01": "drop", "02": "keep"}
    with serving(backend, port):
        first.page.reload()
        first.saved()
        assert rulings(backend) == {"00": "drop", "01": "drop", "02": "drop", "03": "drop"}


def test_another_runs_page_leaves_what_waits(context, backend, tmp_path):
    """Pages of two runs at one address keep what waits apart, also on a head that both have, and lose none of it."""
    with serving(backend) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
    tab.press("n", "End", "n")
    tab.wait("document.getElementById('saved').textContent.includes('2 not saved yet')")
    fewer = validate_profile({**VALUES, "plan": {"heads": 2}}, source="test")
    place = Place(out=str(tmp_path / "other"), store=str(backend.session.folder.store))
    with run_of(fewer, place) as session, serving(other := open_review(session, ""), port):
        tab.page.close()
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.press("j", "y")
        tab.wait("document.getElementById('saved').textContent.startsWith('saved')")
        assert "2 heads, 2 kept, 0 dropped, 1 decided" in tab.page.locator("#progress").inner_text()
        assert (rulings(other), rulings(backend)) == ({"01": "keep"}, {})
        tab.page.close()
    with serving(backend, port):
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.saved()
        assert (rulings(other), rulings(backend)) == ({"01": "keep"}, {"00": "drop", "11": "drop"})


def test_what_waited_too_long_overrules_nothing_newer(context, backend):
    """A decision that waited for the server yields to one that came meanwhile, is told, and can be made again."""
    with serving(backend) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
    tab.press("n", "n")
    tab.wait("document.getElementById('saved').textContent.includes('2 not saved yet')")
    record(backend.session.decisions_file, backend.session.generator, {"tiny-000000": "keep"})
    with serving(backend, port):
        tab.saved()
        assert rulings(backend) == {"00": "keep", "01": "drop"}
        said = "1 not saved, since there are newer decisions: tiny-000000 (kept); decide again if you mean it"
        tab.wait(f"document.getElementById('saved').textContent === '{said}'")
        assert "2 decided by you" in tab.page.locator("#progress").inner_text()
        tab.press("Home", "n")
        tab.saved()
        assert rulings(backend) == {"00": "drop", "01": "drop"}


def test_done_marks_these_verdicts(context, backend, port):
    """Done is in the decisions file, and the page says how to go on."""
    tab = Tab(context, f"http://127.0.0.1:{port}")
    tab.page.locator("#finish").click()
    tab.wait("document.getElementById('over').open")
    assert "spinmeround build --profile tiny" in tab.page.locator("#over").inner_text()
    session = backend.session
    assert is_reviewed(backend.verdicts, load_decisions(session.decisions_file, session.generator))


def downloaded(tab: Tab, backend: ReviewBackend, to: Path) -> Decisions:
    """What a page without a server gives."""
    with tab.page.expect_download() as download:
        tab.page.locator("#finish").click()
    download.value.save_as(to)
    return load_decisions(to, backend.session.generator)


def test_page_of_its_own_downloads_what_merges(context, backend, tmp_path):
    """Without a server, decisions outlive a reload in the browser and leave it as a decisions file."""
    backend.write(tmp_path / "page.html")
    tab = Tab(context, (tmp_path / "page.html").as_uri())
    tab.press("n", "y")
    tab.page.reload()
    assert tab.page.evaluate("document.querySelector('.row img').decode().then(() => true)")
    assert downloaded(tab, backend, tmp_path / "mine.json").rulings() == {"tiny-000000": "drop", "tiny-000001": "keep"}
    assert tab.complaints == []


def test_pages_of_their_own_erase_nothing_of_each_other(context, backend, tmp_path):
    """Two tabs, and a page with fewer of the run's heads: each adds its decisions to what the browser remembers."""
    backend.write(tmp_path / "page.html")
    few = {name: backend.verdicts[name] for name in ("tiny-000004", "tiny-000005")}
    replace(backend, verdicts=few).write(tmp_path / "few.html")
    address = (tmp_path / "page.html").as_uri()
    first, second = Tab(context, address), Tab(context, address)
    first.press("n", "n")
    second.press("End", "n")
    Tab(context, (tmp_path / "few.html").as_uri()).press("n")
    first.wait("document.getElementById('progress').textContent.includes('4 decided')")
    found = downloaded(first, backend, tmp_path / "mine.json").rulings()
    assert found == {f"tiny-{seed:06d}": "drop" for seed in (0, 1, 4, 11)}
    first.page.reload()
    assert "4 decided" in first.page.locator("#progress").inner_text()


def test_page_of_its_own_is_newer_than_a_fast_clock(context, backend, tmp_path):
    """A decision replaces one of tomorrow's date, outlives a reload, and holds when it is merged."""
    session, tomorrow = backend.session, datetime.now(UTC) + timedelta(days=1)
    ahead = {"tiny-000000": Decision(decision="keep", time=tomorrow)}
    merge_decisions(session.decisions_file, Decisions(generator=session.generator, decisions=ahead))
    backend.write(tmp_path / "page.html")
    tab = Tab(context, (tmp_path / "page.html").as_uri())
    tab.press("n")
    tab.page.reload()
    merge_decisions(session.decisions_file, downloaded(tab, backend, tmp_path / "mine.json"))
    assert rulings(backend) == {"00": "drop"}


def test_a_thousand_heads_do_not_lag(context, backend):
    """Only the rows in view are made, whatever the number of heads; a key is answered within a frame or two."""
    many = dict.fromkeys((f"tiny-{seed:06d}" for seed in range(1000)), backend.verdicts["tiny-000003"])
    keys = dict.fromkeys(many, backend.session.keys["tiny-000003"])
    with patch.dict(backend.session.__dict__, keys=keys), serving(replace(backend, verdicts=many)) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
        spent = tab.page.evaluate("""() => {
            const begin = performance.now();
            for (let press = 0; press < 200; press++) dispatchEvent(new KeyboardEvent("keydown", { key: "j" }));
            return (performance.now() - begin) / 200;
        }""")
        assert tab.page.locator(".row").count() < 40
        assert tab.current() == "tiny-000200"
        assert spent < 50


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
    ids=["own", "other site", "sandbox", "rebound name", "form", "huge", "nonsense", "unknown head"],
)
def test_who_may_decide(backend, port, headers, body, status):
    """Only JSON that comes from the server's own page, of a head that is there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/decisions", json.dumps(body), {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    assert answer.status == status, answer.read()
    connection.close()
    assert rulings(backend) == ({"01": "drop"} if status == 200 else {})


def test_a_foreign_name_sees_nothing(port):
    """Reading, too, needs the server's own name, and there is nothing but the page, its strips and the decisions."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
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


def test_nothing_to_review_and_a_taken_port(backend, port, tmp_path):
    """Both are told with what to do."""
    empty = Place(runs=str(tmp_path))
    with run_of(PROFILE, empty) as session, pytest.raises(ConfigError, match="run 'spinmeround stage NAME'"):
        open_review(session, "")
    with pytest.raises(ConfigError, match=f"--port {port}: cannot listen there"):
        review_server(backend, port)


TOML = f"""
[generator]
name = "tests.support.tiny:make"
options = {{ clipped = [3] }}
[plan]
heads = {HEADS}
[sample]
resolution = 16
previews = {{ azimuths = 4, elevations_deg = [0.0] }}
[score]
cells = 32
[screen.limits]
stray_volume = 1e-4
clipped_volume = 0.0
[render]
resolution = 512
[train.unet]
latent_channels = 32
"""


@pytest.fixture
def options(tmp_path) -> RunOptions:
    """Of a run that is not there yet."""
    (tmp_path / "tiny.toml").write_text(TOML)
    return RunOptions(profile=str(tmp_path / "tiny.toml"), runs=tmp_path / "runs")


def test_a_run_that_is_not_there_is_not_made(options):
    """A typo in a folder's name is told, and leaves nothing behind."""
    for merge in ([], [options.runs / "mine.json"]):
        with pytest.raises(ConfigError, match="expected a run of profile 'tiny', found none"):
            review(options, port=0, to=None, merge=merge, done=False)
    assert not options.runs.exists()


def test_decisions_are_taken_in_before_screening(options, backend, tmp_path, monkeypatch, capsys):
    """From all named files or from none, into the file in the home folder that the profile names."""
    monkeypatch.setenv("HOME", str(tmp_path))
    options = replace(options, set=["review.decisions='~/ours.json'"])
    profile, place = options.load()
    open_run(place, profile.name)
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    record(files[0], backend.session.generator, {"tiny-000000": "drop"})
    with pytest.raises(ConfigError, match=r"second\.json: expected a decisions file"):
        review(options, port=0, to=None, merge=files, done=False)
    assert not (tmp_path / "ours.json").exists()
    record(files[1], backend.session.generator, {"tiny-000001": "keep"})
    review(options, port=0, to=None, merge=files, done=False)
    assert "2 of 12 heads: 1 keep, 1 drop\n" in capsys.readouterr().out
    found = load_decisions(tmp_path / "ours.json", backend.session.generator).rulings()
    assert found == {"tiny-000000": "drop", "tiny-000001": "keep"}
    with pytest.raises(ConfigError, match="run 'spinmeround stage NAME'"):
        review(options, port=0, to=None, merge=[], done=False)


def test_command_ends_with_the_tally(options, backend):
    """Ctrl-C leaves with status 0, how many were decided, where, and how to go on."""
    words = ["review", "--profile", options.profile, "--out", str(backend.session.folder.root), "--port", "0"]
    command = subprocess.Popen(
        [sys.executable, "-c", "from spinmeround.flows.cli.app import main; main()", *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    line = command.stdout.readline()
    assert "http://127.0.0.1:" in line, command.stderr.read()
    port = int(line.split()[1].rsplit(":", 1)[1])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    sent = json.dumps({"id": "tiny-000001", "decision": "drop"})
    connection.request("POST", "/decisions", sent, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    command.send_signal(signal.SIGINT)
    output, errors = command.communicate(timeout=30)
    assert command.returncode == 0, errors
    assert "1 of 12 heads: 0 keep, 1 drop" in output
    assert f"spinmeround build --profile {options.profile}" in output
    assert rulings(backend) == {"01": "drop"}
