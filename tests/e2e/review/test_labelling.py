"""The labelling page in a browser: blind, by keys, saved at once, and passed heads are kept only after Done."""

import http.client
import json
from dataclasses import replace

import pytest

from spinmeround.flows.review.labelling import LabelBackend, open_labelling
from spinmeround.models.screening.verdict import LearnedVerdict, ScoreCurve
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.screening.labels import load_labels, random_order
from tests.e2e.review.screened_run import HEADS, serving
from tests.e2e.review.tab import Tab
from tests.support.waiting import LIMIT_S


@pytest.fixture
def labelling(screened) -> LabelBackend:
    """A random round of all heads of the screened run, without any label."""
    screened.session.folder.labels.unlink(missing_ok=True)
    return opened(screened.session)


def opened(session, *, count=HEADS, order="random", verdict="") -> LabelBackend:
    return open_labelling(
        session, "spinmeround screen calibrate", order=order, seed=0, count=count, verdict=str(verdict)
    )


@pytest.fixture
def verdict(tmp_path):
    """A verdict file whose threshold is at a `clipped_volume` of 0.5, which the head of seed 6 has."""
    curve = ScoreCurve(score="clipped_volume", knots=(0.0, 1.0), log_odds=(-4.0, 4.0))
    path = tmp_path / "verdict.json"
    path.write_text(LearnedVerdict(intercept=0.0, threshold=0.5, curves=(curve,)).model_dump_json())
    return path


def labels(backend: LabelBackend) -> dict[str, str]:
    """The labels in the file, by the position of the head in the round."""
    found = backend.labels().labels
    return {at: found[name].label for at, name in enumerate(backend.heads) if name in found}


def saved(tab: Tab) -> None:
    tab.wait("document.getElementById('saved').textContent.startsWith('saved')")


def test_keys_label_heads_and_done_keeps_the_passed_ones(context, labelling):
    """Keep, drop, pass, back and undo; every label is in the file at once; Done turns passed into kept."""
    with serving(labelling) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.press("k", "d", "ArrowRight", "d", "d", "u", "k", "ArrowLeft", "ArrowLeft", "d")
        saved(tab)
        assert labels(labelling) == {0: "keep", 1: "drop", 2: "passed", 3: "drop", 4: "keep"}
        assert tab.page.locator("#name").inner_text() == f"5 of 12: {labelling.heads[4]}"
        tab.press("ArrowLeft", "ArrowLeft", "u")
        tab.page.locator("#finish").click()
        tab.wait("document.getElementById('finished').open")
        summary = tab.page.locator("#finished-summary").inner_text()
        assert summary.startswith(
            "5 heads are labelled: 3 kept (1 of them passed without a mark), 2 dropped. 5 of them"
        )
        assert labels(labelling) == {0: "keep", 1: "drop", 2: "keep", 3: "drop", 4: "keep"}
        assert tab.errors == []


def test_a_reload_goes_on_where_the_labels_end(context, labelling):
    """The page restores all labels from the file; the end of a round is shown as such."""
    with serving(labelling) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.press("k", "d")
        saved(tab)
        tab.page.reload()
        assert tab.page.locator("#name").inner_text().startswith("3 of 12")
        tab.press(*["k"] * 10)
        saved(tab)
        assert tab.page.locator("#none").is_visible()
        assert tab.page.locator("#progress").inner_text() == "11 kept, 1 dropped, 0 passed of 12 heads"


def test_labels_wait_for_a_lost_server(context, labelling):
    """What is labelled while the server is away is saved, in order, when it is back."""
    with serving(labelling) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
    tab.press("k", "d", "u", "k")
    tab.wait("document.getElementById('saved').textContent.includes('not saved yet: no connection')")
    with serving(labelling, port):
        saved(tab)
        assert labels(labelling) == {0: "keep", 1: "keep"}


def test_an_earlier_label_does_not_say_that_a_later_one_is_saved(context, labelling):
    """The page says "saved" only when the file has every label that was given."""
    with serving(labelling) as port:
        tab = Tab(context, f"http://127.0.0.1:{port}")
        tab.press("k")
        saved(tab)
        held = []
        tab.page.route("**/labels", lambda route, _: held.append(route))
        with tab.page.expect_request("**/labels"):
            tab.press("d")
        assert tab.page.locator("#saved").inner_text() == "saving"
        held.pop().continue_()
        saved(tab)
        assert labels(labelling) == {0: "keep", 1: "drop"}


def test_the_page_knows_no_verdict(labelling):
    """Neither verdicts, reasons, scores nor seeds' order are in what the browser gets, so labels are blind."""
    content = labelling.get("/").body.decode()
    data = json.loads(content.split('id="data">')[1].split("</script>")[0])
    assert [sorted(head) for head in data["heads"]] == [["id", "mark", "strip"]] * HEADS
    assert "clipped" not in content
    assert [head["id"] for head in data["heads"]] != sorted(head["id"] for head in data["heads"])


def test_a_round_continues_after_the_labelled_heads(screened, labelling):
    """The next random heads follow; a head of an uncertain round is shown again in a random one."""
    first = opened(screened.session, count=3)
    for name in first.heads:
        first.post("/labels", json.dumps({"id": name, "label": "keep"}).encode())
    assert opened(screened.session, count=4).heads == labelling.heads[3:7]
    assert len(load_labels(screened.session.folder.labels, screened.session.generator).rounds) == 1


def test_uncertain_heads_are_those_nearest_to_the_threshold(screened, labelling, verdict):
    """Seed 6 is at the threshold, 5 and 7 next to it; labels of this round are not random ones."""
    round_ = opened(screened.session, count=3, order="uncertain", verdict=verdict)
    assert set(round_.heads) == {"tiny-000005", "tiny-000006", "tiny-000007"}
    assert round_.heads[0] == "tiny-000006"
    round_.post("/labels", json.dumps({"id": "tiny-000006", "label": "drop"}).encode())
    found = round_.labels()
    assert not found.drawn_at_random("tiny-000006")
    again = opened(screened.session)
    assert "tiny-000006" in again.heads
    assert again.page().labels == {}
    assert random_order([*again.heads], found, 0) == list(again.heads)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/labels", {"id": "tiny-000001", "label": "drop"}, 200),
        ("/labels", {"id": "tiny-000001", "label": "perhaps"}, 400),
        ("/labels", {"id": "tiny-000999", "label": "drop"}, 409),
        ("/done", {"extra": 1}, 400),
        ("/decisions", {"id": "tiny-000001", "decision": "drop"}, 404),
    ],
)
def test_only_valid_messages_change_labels(labelling, path, body, status):
    """A label must be one of the round's heads; there is no way to decide on heads from this page."""
    with serving(labelling) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == status, answer.read()
        connection.close()
    assert len(labelling.labels().labels) == (status == 200)


def test_nothing_to_label_and_no_verdict_are_errors(screened, labelling):
    """Both say what to do."""
    for name in labelling.heads:
        labelling.post("/labels", json.dumps({"id": name, "label": "keep"}).encode())
    with pytest.raises(ConfigError, match="without a label, found none of 12"):
        opened(screened.session)
    with pytest.raises(ConfigError, match="expected a verdict file of 'spinmeround screen calibrate'"):
        opened(screened.session, order="uncertain", verdict=screened.session.folder.verdict)
    assert replace(labelling, heads=labelling.heads[:1]).page().earlier == HEADS - 1
