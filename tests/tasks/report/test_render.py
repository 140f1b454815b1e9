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
    """All tags with their attributes, unclosed tags and tags closed in the wrong order."""

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
    """Rendering depends on the data alone: no clock, no random numbers, no set order."""
    assert render_report(data) == page


def test_page_loads_nothing_external(page: str):
    """Pictures are data URIs, links stay on the page, and the content security policy forbids everything else."""
    found = Page(page)
    assert all(source.startswith("data:image/webp;base64,") for source in found.values("src"))
    assert all(link.startswith("#") or link == "data:," for link in found.values("href"))
    assert "default-src 'none'; img-src data:;" in page
    assert not re.search(r"https?://|@import|url\(", page)


def test_page_is_well_formed_and_references_resolve(page: str):
    """Tags nest correctly, ids are unique, and labels, descriptions and links refer to existing ids."""
    found = Page(page)
    assert (found.open, found.misplaced) == ([], [])
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    targets = [link[1:] for link in found.values("href") if link.startswith("#")]
    for attribute in ("for", "aria-labelledby", "aria-describedby"):
        targets += found.values(attribute)
    assert set(targets) <= set(ids)


def test_every_picture_has_alternative_text_and_a_size(page: str):
    """Screen readers have text to read, and the layout does not shift when pictures decode."""
    pictures = [attributes for tag, attributes in Page(page).tags if tag == "img"]
    assert len(pictures) > 50
    assert all(picture["alt"] and int(picture["width"]) > 0 and int(picture["height"]) > 0 for picture in pictures)


def test_text_from_the_run_cannot_become_markup(data: ReportData):
    """Error messages, ids and parameters are escaped, also in the script's data."""
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


def test_sections_without_data_are_left_out(data: ReportData):
    """A run without training gives a report without empty sections."""
    bare = ReportData(run="bare", data_date="2026-01-01", counts=data.counts, digests={})
    ids = set(Page(render_report(bare)).values("id"))
    assert {"heads", "provenance"} <= ids
    assert not ids & {"viewer", "training", "novel-views", "metrics", "ablation"}


def test_metrics_are_drawn_by_azimuth(page: str):
    """One drawing for each metric that views have, with its means as text and a line for the baseline."""
    section = page.split('id="metrics"')[1].split("</section>")[0]
    drawings = re.findall(r'<svg viewBox="0 0 350 210".*?</svg>', section, re.DOTALL)
    assert len(drawings) == 2
    assert 'aria-label="PSNR of the model by azimuth: 0° 18.00, +90° 15.00"' in drawings[0]
    assert all(drawing.count('class="other other-0"') == 1 for drawing in drawings)


def test_the_ablation_has_a_table_orderings_and_a_figure(page: str):
    """Variants are columns, a metric that one lacks has the reason, the true views have their value."""
    assert "ablation" in set(Page(page).values("id"))
    section = html.unescape(re.sub(r"<[^>]+>", " ", page.split('id="ablation"')[1].split("</section>")[0]))
    text = " ".join(section.split())
    assert "model 8,000 steps, without normals 8,000 steps" in text
    assert "Without normals" in text
    assert "dB; true views 27.12" in text
    assert "excludes without-normals: no normals were predicted" in text
    assert "PSNR without normals 1.15 0.90 to 1.40 p = 0.031 the model" in text
    assert 'width="60" height="40"' in page


def test_viewer_respects_its_size_limit(data: ReportData):
    """Heads are added while they fit, at least one; the page states how many of them it includes."""
    page = render_report(data, ReportParams(viewer_megabytes=1e-6))
    assert page.count('name="orbit-head"') == 1
    assert "Includes 1 of 2 heads" in page


def test_report_states_lost_comparisons_and_missing_metrics(page: str):
    """A lost comparison is a sentence, and a metric without a value keeps its row with the reason."""
    text = re.sub(r"<[^>]+>", "", page)
    assert "The model does not beat every baseline." in text
    assert re.search(
        r"Compared with the mean training image at that pose, the model is better in .* and worse in L2 and PSNR", text
    )
    assert "missing: LPIPS weights not found" in text


def test_dropped_heads_are_grouped_by_first_reason_with_scores(page: str):
    """Each dropped head appears once, with its scores and other reasons."""
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert text.count("procedural-000102 also: clipped volume stray volume 0.0021 clipped volume 0.034") == 1
    assert len(re.findall(r'class="failing"', page)) == 5
    assert "stray volume (2), clipped volume (1), manual review (1)" in html.unescape(text)


def test_each_dropped_head_shows_all_its_previews(data: ReportData, page: str):
    """Each dropped head shows its own pictures, up to WebP compression; alpha is exact."""
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


def test_manual_review_is_reported(page: str):
    """Heads dropped in review form a group; heads kept in review are listed with the screen's reasons."""
    text = html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))
    assert "manual review 1 procedural-000104" in text
    assert "Kept by manual review against the screen 1 procedural-000005 screen: stray volume" in text
    assert "dropped by screening and review" in text
    assert "clipped volume 1 2" in text


def test_dropped_head_without_pictures_is_still_listed(data: ReportData):
    """A head that failed before its previews were rendered is still on the sheet."""
    blank = replace(data.dropped[0], pictures=np.zeros((0, 64, 64, 3), np.uint8), mask=np.zeros((0, 64, 64), np.uint8))
    assert "no picture" in render_report(replace(data, dropped=(blank,)))


def test_writing_replaces_the_old_report(data: ReportData, page: str, tmp_path):
    """The file equals the rendered page, and no other file remains next to it."""
    (tmp_path / "report.html").write_text("old")
    write_report(tmp_path / "report.html", data)
    assert (tmp_path / "report.html").read_text() == page
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_target_that_is_not_writable_is_an_environment_error(data: ReportData, tmp_path):
    """If the parent of the target is a file, the error names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageUnavailable, match="file: a file is where a folder is expected"):
        write_report(tmp_path / "file" / "report.html", data)
