import base64
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from spinmeround.storage.errors import StorageUnavailable
from spinmeround.tasks.pictures.contact_sheet import side_by_side
from spinmeround.tasks.pictures.webp import cut_out
from spinmeround.tasks.report.data import Quarantined, ReportData
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.render import render_report, write_report

VOID = {"meta", "link", "img", "input", "br", "path", "circle"}


class Page(HTMLParser):
    """All tags with their attributes, and the tags that were left open or closed out of turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.misplaced: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.misplaced.append(tag)

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.tags if attribute in attributes]


def test_same_data_gives_the_same_bytes(data: ReportData, page: str):
    """Rendering is a pure function of the data: no clock, no random number, no order of a set."""
    assert render_report(data) == page


def test_page_needs_nothing_but_itself(page: str):
    """Every picture is a data URI, every link stays on the page, and the page's own policy forbids the rest."""
    found = Page(page)
    assert all(source.startswith("data:image/webp;base64,") for source in found.values("src"))
    assert all(link.startswith("#") or link == "data:," for link in found.values("href"))
    assert "default-src 'none'; img-src data:;" in page
    assert not re.search(r"https?://|@import|url\(", page)


def test_page_is_well_formed_and_its_references_hold(page: str):
    """Tags are closed in turn, ids are unique, and labels, descriptions and links point at ids that exist."""
    found = Page(page)
    assert (found.open, found.misplaced) == ([], [])
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in found.values("href") if link.startswith("#")]
    for attribute in ("for", "aria-labelledby", "aria-describedby"):
        targets += found.values(attribute)
    assert set(targets) <= set(ids)


def test_every_picture_has_words_and_a_size(page: str):
    """Screen readers get an alternative text, and the layout does not jump when pictures decode."""
    pictures = [attributes for tag, attributes in Page(page).tags if tag == "img"]
    assert len(pictures) > 50
    assert all(picture["alt"] and int(picture["width"]) > 0 and int(picture["height"]) > 0 for picture in pictures)


def test_text_from_the_run_cannot_become_markup(data: ReportData):
    """Errors' words, ids and parameters are text, also inside the script's data."""
    evil = "</script><script>alert('x')</script>"
    head = replace(data.orbit.heads[0], id=evil)
    hurt = replace(
        data,
        run=evil,
        quarantined=(Quarantined(id=evil, stage=evil, reason=evil, attempts=1),),
        orbit=replace(data.orbit, heads=(head,)),
        parameters={"generator": {"name": evil}},
    )
    assert "<script>alert" not in render_report(hurt)


def test_parts_that_a_run_does_not_have_are_left_out(data: ReportData):
    """A dataset without training gives a report without empty sections."""
    bare = ReportData(run="bare", data_date="2026-01-01", counts=data.counts, digests={})
    ids = set(Page(render_report(bare)).values("id"))
    assert {"heads", "provenance"} <= ids
    assert not ids & {"viewer", "training", "novel-views", "metrics"}


def test_viewer_keeps_to_its_budget_and_says_so(data: ReportData):
    """Heads are added while they fit; the first one always is there, and the page says how many are not."""
    page = render_report(data, ReportParams(viewer_megabytes=1e-6))
    assert page.count('name="orbit-head"') == 1
    assert "1 of 2 heads are here" in page


def test_report_says_that_the_model_loses_and_what_is_missing(page: str):
    """A lost comparison stands in words, and a metric without a value keeps its row, with the reason."""
    text = re.sub(r"<[^>]+>", "", page)
    assert "The model does not beat every baseline." in text
    assert re.search(
        r"Against the mean training image of that pose, the model is better in .* and worse in L2 and PSNR", text
    )
    assert "missing: the weights of LPIPS are not on this machine" in text


def test_dropped_heads_stand_under_their_first_reason_with_scores(page: str):
    """Each dropped head is shown once, with its scores and its other reasons."""
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert text.count("procedural-000102 also: clipped volume stray volume 0.0021 clipped volume 0.034") == 1
    assert len(re.findall(r'class="failing"', page)) == 5
    assert "stray volume (2), clipped volume (1), a person's review (1)" in html.unescape(text)


def test_each_dropped_head_shows_all_its_previews(data: ReportData, page: str):
    """Beside a dropped head's id stand its own pictures in a row, but for WebP's loss; alpha is exact."""
    strips = re.findall(r'<img src="data:image/webp;base64,([^"]+)"[^>]*>\s*<p><span class="id">([^<]+)<', page)
    shown = {name: np.asarray(Image.open(io.BytesIO(base64.b64decode(file))).convert("RGBA")) for file, name in strips}
    for card in data.dropped:
        expected = side_by_side(cut_out(card.pictures, card.mask))
        np.testing.assert_array_equal(shown[card.id][..., 3], expected[..., 3])
        solid = expected[..., 3] == 255
        errors = {
            name: np.abs(row[solid, :3].astype(int) - expected[solid, :3]).mean()
            for name, row in shown.items()
            if row.shape == expected.shape
        }
        assert min(errors, key=lambda name: errors[name]) == card.id
        assert errors[card.id] < 6


def test_a_persons_word_is_told(page: str):
    """Heads that a person dropped have their group, and those that one kept stand apart, with the screen's reasons."""
    text = html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))
    assert "a person's review 1 procedural-000104" in text
    assert "Kept by a person against the screen 1 procedural-000005 screen: stray volume" in text
    assert "dropped by screen and review" in text
    assert "clipped volume 1 2" in text


def test_dropped_head_without_pictures_is_still_listed(data: ReportData):
    """A head that failed before its previews were made has its place on the sheet."""
    blank = replace(data.dropped[0], pictures=np.zeros((0, 64, 64, 3), np.uint8), mask=np.zeros((0, 64, 64), np.uint8))
    assert "no picture" in render_report(replace(data, dropped=(blank,)))


def test_written_report_replaces_the_old_one_whole(data: ReportData, page: str, tmp_path):
    """The file is the rendered page and nothing is left beside it."""
    (tmp_path / "report.html").write_text("old")
    write_report(tmp_path / "report.html", data)
    assert (tmp_path / "report.html").read_text() == page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_target_that_cannot_be_written_is_the_users_to_mend(data: ReportData, tmp_path):
    """A folder that is none is named in an error of the environment, not a traceback of the report."""
    (tmp_path / "file").write_text("")
    with pytest.raises((StorageUnavailable, NotADirectoryError, FileExistsError), match="file"):
        write_report(tmp_path / "file" / "report.html", data)
