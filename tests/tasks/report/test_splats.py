"""The splats in the report: collected from a reconstruction, drawn in a browser, within the report's size."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from spinmeround.tasks.reconstruction.files import SCORES, SPLATS
from spinmeround.tasks.reconstruction.ply import splat_file
from spinmeround.tasks.report.collect import read_splat_section
from spinmeround.tasks.report.data import ReportData
from spinmeround.tasks.report.render import render_report
from tests.models.reconstruction.clouds import cloud
from tests.support.browser import WEBGL, launched

SCORED = {"l2": 0.001, "psnr": 31.25, "ssim": 0.95, "lpips": None, "mask_iou": 0.98}


def reconstruction(folder: Path, number: int = 400, degree: int = 2) -> Path:
    """The files of a reconstruction that the report reads."""
    (folder / SPLATS).write_bytes(splat_file(cloud(number, degree=degree, dtype=torch.float32, scale=-4.2)))
    document = {"subject": "procedural-000007", "side": 64, "fitted_views": [0, 2, 3], "held_out": SCORED}
    (folder / SCORES).write_text(json.dumps({**document, "truth": {**SCORED, "psnr": 20.5}}), encoding="utf-8")
    return folder


def test_the_section_shows_scores_of_both_kinds_of_views(data: ReportData, tmp_path: Path) -> None:
    """Metrics without values are left out, and a report without a reconstruction has neither section nor script."""
    page = render_report(replace(data, splats=read_splat_section(reconstruction(tmp_path))))
    assert "procedural-000007 as 400 3D Gaussians, fitted to 3 generated views of 64 px" in page
    assert "31.25" in page
    assert "20.50" in page
    section = page[page.index('id="splats"') :]
    assert "LPIPS" not in section[: section.index("</section>")]
    assert "splatControls" not in render_report(data)


def test_the_splats_of_a_full_reconstruction_fit(data: ReportData, tmp_path: Path) -> None:
    """20,000 Gaussians of degree 3 add less than 2 MB, as the page has degree 0 alone."""
    full = replace(data, splats=read_splat_section(reconstruction(tmp_path, 20_000, 3)))
    assert len(render_report(full)) - len(render_report(data)) < 2_000_000


def test_the_splats_turn_in_the_report(data: ReportData, tmp_path: Path) -> None:
    """The canvas is drawn, keys turn it, and the page's policy and script raise no errors."""
    path = tmp_path / "report.html"
    path.write_text(render_report(replace(data, splats=read_splat_section(reconstruction(tmp_path)))), encoding="utf-8")
    with launched(WEBGL) as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(path.as_uri())
        canvas = page.locator("#splats-canvas")
        before = canvas.evaluate("canvas => canvas.toDataURL()")
        canvas.focus()
        page.keyboard.press("ArrowLeft")
        for _ in range(400):
            if canvas.get_attribute("data-moving") == "false" and canvas.get_attribute("data-azimuth") == "-5.0":
                break
            page.wait_for_timeout(25)
        assert canvas.get_attribute("data-azimuth") == "-5.0"
        assert canvas.evaluate("canvas => canvas.toDataURL()") != before
        assert len(before) > 10_000
        assert messages == []
