"""The review page in a browser, against its server or as a file: keys, reloads, several tabs, a lost server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spinmeround.flows.profile import validate_profile
from spinmeround.flows.review.server import ReviewBackend, open_review
from spinmeround.flows.run.folder import Place
from spinmeround.tasks.screening.decisions import (
    DecisionEntry,
    Decisions,
    is_reviewed,
    load_decisions,
    merge_decisions,
    record,
)
from tests.e2e.review.screened_run import VALUES, decisions, run_of, serving
from tests.e2e.review.tab import Tab


def test_keys(context, backend, port):
    """Every key does what the page documents, each decision is saved at once, and a reload shows it."""
    tab = Tab(context, f"http://127.0.0.1:{port}")
    assert (tab.current(), decisions(backend)) == ("00", {})
    tab.press("y", "n", "ArrowDown", "y")
    tab.saved()
    assert decisions(backend) == {"00": "keep", "01": "drop", "03": "keep"}
    assert tab.current() == "04"
    tab.press("u")
    tab.saved()
    assert (tab.current(), decisions(backend)) == ("03", {"00": "keep", "01": "drop"})
    tab.press("k", "k", "c", "End", "n", "Home")
    tab.saved()
    assert decisions(backend) == {"00": "keep", "11": "drop"}
    tab.press("e")
    tab.page.keyboard.type("yn, a fine nose")
    tab.press("Enter")
    tab.saved()
    tab.page.reload()
    assert tab.page.locator('.row[data-id="tiny-000000"] .note').input_value() == "yn, a fine nose"
    assert "12 heads: 9 kept, 3 dropped, 2 decided by you" in tab.page.locator("#progress").inner_text()
    assert load_decisions(backend.session.decisions_file, backend.session.generator).decisions["tiny-000000"].note
    assert tab.errors == []


def test_filters_and_order(context, backend, port):
    """A filter shows only its heads; a score sorts both ways; a row shows the failing score and its limit."""
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
    tab.page.locator('[data-filter="overridden"]').click()
    assert tab.shown() == ["11"]
    tab.page.locator('[data-filter="all"]').click()
    tab.page.locator("#search").fill("-00001")
    assert sorted(tab.shown()) == ["10", "11"]
    tab.saved()


def test_two_tabs_and_a_lost_server(context, backend):
    """Tabs keep and see each other's decisions; decisions made while the server is down are saved when it is back."""
    with serving(backend) as port:
        first, second = (Tab(context, f"http://127.0.0.1:{port}") for _ in range(2))
        first.press("n", "n")
        second.press("j", "j", "y")
        first.saved()
        second.saved()
        assert decisions(backend) == {"00": "drop", "01": "drop", "02": "keep"}
        for tab in (first, second):
            tab.page.evaluate("dispatchEvent(new Event('focus'))")
            tab.wait("document.getElementById('progress').textContent.includes('3 decided')")
    first.press("n")
    second.press("n")
    first.wait("document.getElementById('saved').textContent.includes('1 not saved yet')")
    second.page.close()
    assert decisions(backend) == {"00": "drop", "01": "drop", "02": "keep"}
    with serving(backend, port):
        first.page.reload()
        first.saved()
        assert decisions(backend) == {"00": "drop", "01": "drop", "02": "drop", "03": "drop"}


def test_pending_decisions_of_two_runs_stay_apart(context, backend, tmp_path):
    """Pages of two runs at one address keep their unsaved decisions apart, even on a head of both, and lose none."""
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
        assert "2 heads: 2 kept, 0 dropped, 1 decided" in tab.page.locator("#progress").inner_text()
        assert (decisions(other), decisions(backend)) == ({"01": "keep"}, {})
        tab.page.close()
    with serving(backend, port):
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.saved()
        assert (decisions(other), decisions(backend)) == ({"01": "keep"}, {"00": "drop", "11": "drop"})


def test_a_pending_decision_yields_to_a_newer_one(context, backend):
    """An unsaved decision yields to one made meanwhile; the page reports it, and it can be made again."""
    with serving(backend) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
    tab.press("n", "n")
    tab.wait("document.getElementById('saved').textContent.includes('2 not saved yet')")
    record(backend.session.decisions_file, backend.session.generator, {"tiny-000000": "keep"})
    with serving(backend, port):
        tab.saved()
        assert decisions(backend) == {"00": "keep", "01": "drop"}
        message = "1 not saved, because newer decisions exist: tiny-000000 (kept); decide again to replace them"
        tab.wait(f"document.getElementById('saved').textContent === '{message}'")
        assert "2 decided by you" in tab.page.locator("#progress").inner_text()
        tab.press("Home", "n")
        tab.saved()
        assert decisions(backend) == {"00": "drop", "01": "drop"}


def test_done_marks_these_verdicts(context, backend, port):
    """Done marks the verdicts in the decisions file, and the page shows the command that continues."""
    tab = Tab(context, f"http://127.0.0.1:{port}")
    tab.page.locator("#finish").click()
    tab.wait("document.getElementById('finished').open")
    assert "spinmeround build --profile tiny" in tab.page.locator("#finished").inner_text()
    session = backend.session
    assert is_reviewed(backend.verdicts, load_decisions(session.decisions_file, session.generator))


def downloaded(tab: Tab, backend: ReviewBackend, to: Path) -> Decisions:
    """The decisions file that a page without a server downloads."""
    with tab.page.expect_download() as download:
        tab.page.locator("#finish").click()
    download.value.save_as(to)
    return load_decisions(to, backend.session.generator)


def test_a_page_without_a_server_downloads_decisions(context, backend, tmp_path):
    """The browser keeps decisions across a reload, and the download is a decisions file."""
    backend.write(tmp_path / "page.html")
    tab = Tab(context, (tmp_path / "page.html").as_uri())
    tab.press("n", "y")
    tab.page.reload()
    assert tab.page.evaluate("document.querySelector('.row img').decode().then(() => true)")
    assert downloaded(tab, backend, tmp_path / "mine.json").active() == {"tiny-000000": "drop", "tiny-000001": "keep"}
    assert tab.errors == []


def test_pages_without_a_server_share_decisions(context, backend, tmp_path):
    """Two tabs and a page with fewer heads of the run each add their decisions to those in the browser."""
    backend.write(tmp_path / "page.html")
    few = {name: backend.verdicts[name] for name in ("tiny-000004", "tiny-000005")}
    replace(backend, verdicts=few).write(tmp_path / "few.html")
    address = (tmp_path / "page.html").as_uri()
    first, second = Tab(context, address), Tab(context, address)
    first.press("n", "n")
    second.press("End", "n")
    Tab(context, (tmp_path / "few.html").as_uri()).press("n")
    first.wait("document.getElementById('progress').textContent.includes('4 decided')")
    found = downloaded(first, backend, tmp_path / "mine.json").active()
    assert found == {f"tiny-{seed:06d}": "drop" for seed in (0, 1, 4, 11)}
    first.page.reload()
    assert "4 decided" in first.page.locator("#progress").inner_text()


def test_a_decision_replaces_one_from_the_future(context, backend, tmp_path):
    """A decision replaces one with tomorrow's date, also after a reload and a merge."""
    session, tomorrow = backend.session, datetime.now(UTC) + timedelta(days=1)
    ahead = {"tiny-000000": DecisionEntry(decision="keep", time=tomorrow)}
    merge_decisions(session.decisions_file, Decisions(generator=session.generator, decisions=ahead))
    backend.write(tmp_path / "page.html")
    tab = Tab(context, (tmp_path / "page.html").as_uri())
    tab.press("n")
    tab.page.reload()
    merge_decisions(session.decisions_file, downloaded(tab, backend, tmp_path / "mine.json"))
    assert decisions(backend) == {"00": "drop"}


def test_a_thousand_heads_do_not_lag(context, backend):
    """The page creates only the rows in view, and handles a key within a few frames."""
    names = [f"tiny-{seed:06d}" for seed in range(1000)]
    verdicts = dict.fromkeys(names, backend.verdicts["tiny-000003"])
    keys = {
        stage: dict.fromkeys(names, getattr(backend, stage)["tiny-000003"]) for stage in ("sample_keys", "score_keys")
    }
    many = replace(backend, verdicts=verdicts, **keys)
    with serving(many) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
        key_ms = tab.page.evaluate("""() => Math.min(...Array.from({ length: 10 }, () => {
            const begin = performance.now();
            for (let press = 0; press < 20; press++) dispatchEvent(new KeyboardEvent("keydown", { key: "j" }));
            return (performance.now() - begin) / 20;
        }))""")
        assert tab.page.locator(".row").count() < 40
        assert tab.current() == "tiny-000200"
        assert key_ms < 50
