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
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.profile import validated
from flows.review_desk import Desk, desk_server, open_desk
from flows.run_folder import Place
from flows.session import Session, looked_at
from storage.errors import ConfigError
from tasks.decisions import is_reviewed, load_decisions
from tests.e2e.conftest import TINY
from tests.tasks.report.test_browser import CHROMIUM, DESKTOP, FLAGS

HEADS = 40
VALUES = {
    **TINY,
    "score": {"cells": 32},
    "plan": {"heads": HEADS},
    "generator": {"name": "tests.support.tiny:make", "options": {"clipped": [3]}},
}
PROFILE = validated(VALUES, source="test")


def put(session: Session, stage: str, head: Any, files: dict[str, Any]) -> None:
    """An artifact as the stage would have made it, but of these files."""
    from flows.shards import STAGES

    keys, made = session.keys[head.id], STAGES[stage]
    inputs = {name: keys[name] for name in made.inputs}
    sections = session.sections[stage]
    with session.store.commit(
        stage,
        keys[stage],
        version=made.version,
        params=made.identity(head, sections),
        inputs=inputs,
        weights=made.weights(sections),
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


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    with looked_at(PROFILE, Place(runs=str(tmp_path))) as session:
        screen_all(session)
        yield open_desk(session, "spinmeround build --profile tiny")


@contextmanager
def serving(desk: Desk, port: int = 0) -> Iterator[int]:
    """The page's server, as the command has it."""
    with desk_server(desk, port) as server:
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


def rulings(desk: Desk) -> dict[str, str]:
    """The decisions on the disk, by seed."""
    found = load_decisions(desk.session.decisions_file, desk.session.generator).rulings()
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
        self.wait("Object.values(localStorage).every((kept) => kept === '{}')")

    def current(self) -> str:
        return self.page.locator('.row[aria-current="true"]').get_attribute("data-id").removeprefix("tiny-0000")

    def shown(self) -> list[str]:
        rows = self.page.evaluate(
            "[...document.querySelectorAll('.row')].map((row) => [row.offsetTop, row.dataset.id])"
        )
        return [name.removeprefix("tiny-0000") for _, name in sorted(rows)]


def test_keys_decide_and_the_file_agrees(browser, desk):
    """Every key does what the page says, each decision is on the disk at once, and a reload shows it."""
    with serving(desk) as port:
        context = browser.new_context(viewport=DESKTOP)
        tab = Tab(context, f"http://127.0.0.1:{port}")
        assert (tab.current(), rulings(desk)) == ("00", {})
        tab.press("y", "n", "ArrowDown", "y")
        tab.saved()
        assert rulings(desk) == {"00": "keep", "01": "drop", "03": "keep"}
        assert tab.current() == "04"
        tab.press("u")
        tab.saved()
        assert (tab.current(), rulings(desk)) == ("03", {"00": "keep", "01": "drop"})
        tab.press("k", "k", "c", "End", "n", "Home")
        tab.saved()
        assert rulings(desk) == {"00": "keep", "39": "drop"}
        tab.press("e")
        tab.page.keyboard.type("yn, a fine nose")
        tab.press("Enter")
        tab.saved()
        tab.page.reload()
        assert tab.page.locator('.row[data-id="tiny-000000"] .note').input_value() == "yn, a fine nose"
        assert "40 heads, 30 kept, 10 dropped, 2 decided by you" in tab.page.locator("#progress").inner_text()
        assert load_decisions(desk.session.decisions_file, desk.session.generator).decisions["tiny-000000"].note
        assert tab.complaints == []
        context.close()


def test_filters_and_order(browser, desk):
    """A filter shows just its heads, with their number; a score sorts both ways; the row says why, with the limit."""
    with serving(desk) as port:
        context = browser.new_context(viewport={"width": 1280, "height": 3000})
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.page.locator('[data-filter="dropped"]').click()
        assert tab.shown() == [f"{seed:02d}" for seed in range(3, 40, 4)]
        tab.page.locator("#sort").select_option("clipped_volume")
        tab.page.locator("#order").click()
        assert tab.shown()[:2] == ["39", "35"]
        failing = tab.page.locator('.row[data-id="tiny-000039"] .failing').inner_text()
        assert " ".join(failing.split()) == "clipped volume 0.025 (≤ 0)"
        tab.press("y")
        tab.page.locator('[data-filter="overruled"]').click()
        assert tab.shown() == ["39"]
        tab.page.locator('[data-filter="all"]').click()
        tab.page.locator("#search").fill("-00001")
        assert sorted(tab.shown()) == [f"{seed}" for seed in range(10, 20)]
        context.close()


def test_two_tabs_and_a_lost_server(browser, desk):
    """Tabs keep each other's decisions and see them; what a lost server did not get is saved when one is back."""
    with serving(desk) as port:
        context = browser.new_context(viewport=DESKTOP)
        first, second = (Tab(context, f"http://127.0.0.1:{port}") for _ in range(2))
        first.press("n", "n")
        second.press("j", "j", "y")
        first.saved()
        second.saved()
        assert rulings(desk) == {"00": "drop", "01": "drop", "02": "keep"}
        second.page.evaluate("dispatchEvent(new Event('focus'))")
        second.wait("document.getElementById('progress').textContent.includes('3 decided')")
        second.page.close()
    first.press("n")
    first.wait("document.getElementById('saved').textContent.includes('1 not saved yet')")
    assert "02" not in [name for name, ruling in rulings(desk).items() if ruling == "drop"]
    with serving(desk, port):
        first.saved()
        assert rulings(desk) == {"00": "drop", "01": "drop", "02": "drop"}
        context.close()


def test_done_marks_these_verdicts(browser, desk):
    """Done is in the decisions file, and the page says how to go on."""
    with serving(desk) as port:
        context = browser.new_context(viewport=DESKTOP)
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.page.locator("#finish").click()
        tab.wait("document.getElementById('over').open")
        assert "spinmeround build --profile tiny" in tab.page.locator("#over").inner_text()
        context.close()
    session = desk.session
    assert is_reviewed(desk.verdicts, load_decisions(session.decisions_file, session.generator))


def test_page_of_its_own_downloads_what_merges(browser, desk, tmp_path):
    """Without a server, decisions outlive a reload in the browser and leave it as a decisions file."""
    desk.write(tmp_path / "page.html")
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    tab = Tab(context, (tmp_path / "page.html").as_uri())
    tab.press("n", "y")
    tab.page.reload()
    assert tab.page.evaluate("document.querySelector('.row img').decode().then(() => true)")
    with tab.page.expect_download() as downloaded:
        tab.page.locator("#finish").click()
    downloaded.value.save_as(tmp_path / "mine.json")
    found = load_decisions(tmp_path / "mine.json", desk.session.generator)
    assert found.rulings() == {"tiny-000000": "drop", "tiny-000001": "keep"}
    assert tab.complaints == []
    context.close()


def test_a_thousand_heads_do_not_lag(browser, desk):
    """Only the rows in view are made, whatever the number of heads; a key is answered within a frame or two."""
    many = dict.fromkeys((f"tiny-{seed:06d}" for seed in range(1000)), desk.verdicts["tiny-000003"])
    desk.session.__dict__["keys"] = dict.fromkeys(many, desk.session.keys["tiny-000003"])
    with serving(Desk(session=desk.session, verdicts=many, command="")) as port:
        context = browser.new_context(viewport=DESKTOP)
        tab = Tab(context, f"http://127.0.0.1:{port}")
        spent = tab.page.evaluate("""() => {
            const begin = performance.now();
            for (let press = 0; press < 200; press++) dispatchEvent(new KeyboardEvent("keydown", { key: "j" }));
            return (performance.now() - begin) / 200;
        }""")
        assert tab.page.locator(".row").count() < 40
        assert tab.current() == "tiny-000200"
        assert spent < 50
        context.close()


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
def test_who_may_decide(desk, headers, body, status):
    """Only JSON that comes from the server's own page, of a head that is there."""
    with serving(desk) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/decisions", json.dumps(body), {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        assert answer.status == status, answer.read()
        connection.close()
    assert rulings(desk) == ({"01": "drop"} if status == 200 else {})


def test_a_foreign_name_sees_nothing(desk):
    """Reading, too, needs the server's own name, and there is nothing but the page, its strips and the decisions."""
    with serving(desk) as port:
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


def test_nothing_to_review_and_a_taken_port(desk, tmp_path):
    """Both are told with what to do."""
    empty = Place(runs=str(tmp_path / "empty"))
    with looked_at(PROFILE, empty) as session, pytest.raises(ConfigError, match="run 'spinmeround stage NAME'"):
        open_desk(session, "")
    with serving(desk) as port, pytest.raises(ConfigError, match=f"--port {port}: cannot listen there"):
        desk_server(desk, port)


def test_command_ends_with_the_tally(desk, tmp_path):
    """Ctrl-C leaves with status 0, how many were decided, where, and how to go on."""
    profile = tmp_path / "tiny.toml"
    profile.write_text(
        '[generator]\nname = "tests.support.tiny:make"\noptions = { clipped = [3] }\n'
        f"[plan]\nheads = {HEADS}\n"
        "[sample]\nresolution = 16\npreviews = { azimuths = 4, elevations_deg = [0.0] }\n"
        "[score]\ncells = 32\n[screen.limits]\nstray_volume = 1e-4\nclipped_volume = 0.0\n"
    )
    command = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from flows.cli import main; main()",
            "review",
            "--profile",
            str(profile),
            "--runs",
            str(tmp_path),
            "--port",
            "0",
        ],
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
    assert "1 of 40 heads: 0 keep, 1 drop" in output
    assert f"spinmeround build --profile {profile}" in output
    assert rulings(desk) == {"01": "drop"}
