"""The report in a real browser: mouse, touch and keyboard control of the viewer, layout, printing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from spinmeround.tasks.pictures.webp import nearest_view
from spinmeround.tasks.report.data import ReportData
from tests.support.browser import launched

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHIFTS = """addEventListener("DOMContentLoaded", () => { window.shift = 0; new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true }); });"""


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(page: str, tmp_path_factory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


class Tab:
    """An open report with its console messages, errors and network requests."""

    def __init__(self, context, address: str) -> None:
        self.messages: list[str] = []
        self.requests: list[str] = []
        self.page = context.new_page()
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.add_init_script(SHIFTS)
        self.page.goto(address)
        self.canvas = self.page.locator("#orbit")

    def wait(self, condition: str) -> None:
        """Wait until the expression is true, by polling: the page's policy forbids Playwright's wait_for_function."""
        for _ in range(400):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(25)
        pytest.fail(f"still false after 10 s: {condition}")

    def view(self) -> int:
        """The view on the canvas after it stops moving."""
        self.wait("document.getElementById('orbit').dataset.moving === 'false'")
        return int(self.canvas.get_attribute("data-view"))

    def drag(self, right: float, down: float) -> None:
        """Drag by fractions of the canvas's side, and pause before releasing."""
        box = self.canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + right * box["width"], y + down * box["height"], steps=6)
        self.page.wait_for_timeout(120)
        mouse.up()

    def pixels(self) -> np.ndarray:
        """The canvas at the size of a view, as RGBA with straight alpha."""
        script = """(canvas) => {
            const small = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
            const pen = small.getContext("2d");
            pen.imageSmoothingQuality = "high";
            pen.drawImage(canvas, 0, 0, 64, 64);
            return Array.from(pen.getImageData(0, 0, 64, 64).data);
        }"""
        return np.array(self.canvas.evaluate(script), np.uint8).reshape(64, 64, 4)


@pytest.fixture(scope="module")
def desktop(browser, address: str) -> Iterator[Tab]:
    context = browser.new_context(viewport=DESKTOP)
    yield Tab(context, address)
    context.close()


@pytest.fixture
def tab(desktop: Tab, address: str) -> Iterator[Tab]:
    """The report, freshly loaded."""
    desktop.messages.clear()
    desktop.page.goto(address)
    yield desktop
    assert desktop.messages == []


def view_at(data: ReportData, azimuth: float, elevation: float) -> int:
    return nearest_view(data.orbit.azimuth_deg, data.orbit.elevation_deg, (azimuth, elevation))


def test_canvas_shows_the_datasets_pixels(tab: Tab, data: ReportData):
    """RGB, normals and mask on the canvas are those of its head and view, up to WebP compression."""
    view = tab.view()
    assert view == view_at(data, 0, 0)
    head = data.orbit.heads[0]
    inside = np.pad(head.mask[view] == 255, 0)
    inside[:2], inside[-2:] = False, False
    for shift in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        inside &= np.roll(inside, *shift)
    for mode, truth in (("rgb", head.rgb), ("normals", head.normals)):
        tab.page.locator(f"input[name=orbit-mode][value={mode}]").check(force=True)
        tab.view()
        error = np.abs(tab.pixels()[..., :3].astype(int) - truth[view])[inside]
        assert np.median(error) < 6
    tab.page.locator("input[name=orbit-mode][value=mask]").check(force=True)
    tab.view()
    assert ((tab.pixels()[..., 3] > 127) == (head.mask[view] > 127)).mean() > 0.99


def test_dragging_rotates_the_head(tab: Tab, data: ReportData):
    """Dragging right lowers the azimuth, dragging down raises the elevation."""
    tab.view()
    tab.drag(72 / 260, 0)
    assert tab.view() == view_at(data, -72, 0)
    tab.drag(0, 60 / 260)
    assert tab.view() == view_at(data, -72, 30)


def test_a_flick_continues_and_stops(tab: Tab, data: ReportData):
    """Released in motion, the head rotates further than it was dragged, then stops."""
    tab.view()
    tab.canvas.evaluate("""(canvas) => {
        const box = canvas.getBoundingClientRect(), y = box.top + 200;
        for (const [type, x] of [["down", 300], ["move", 280], ["up", 280]])
            canvas.dispatchEvent(new PointerEvent("pointer" + type, { pointerId: 1, clientX: box.x + x, clientY: y }));
    }""")
    assert tab.view() not in (view_at(data, 0, 0), view_at(data, 72, 0))


def test_arrow_keys_step_through_the_views(tab: Tab, data: ReportData):
    """A key is one azimuth or one elevation; the azimuth wraps, the elevation stops at its ends, Home is the front."""
    tab.view()
    tab.canvas.focus()
    for key, at in [
        ("ArrowRight", (72, 0)),
        ("ArrowLeft", (0, 0)),
        ("ArrowLeft", (-72, 0)),
        ("ArrowUp", (-72, 30)),
        ("ArrowUp", (-72, 30)),
        ("ArrowDown", (-72, 0)),
        ("Home", (0, 0)),
    ]:
        tab.page.keyboard.press(key)
        assert tab.view() == view_at(data, *at)
    for _ in range(5):
        tab.page.keyboard.press("ArrowRight")
        tab.view()
    assert tab.view() == view_at(data, 0, 0)


def test_sliders_control_and_follow_the_angles(tab: Tab, data: ReportData):
    """Sliders, keys and the displayed angles share one state."""
    tab.view()
    tab.page.locator("#orbit-azimuth").fill("144")
    assert tab.view() == view_at(data, 144, 0)
    assert tab.page.locator("#orbit-angles").inner_text() == "azimuth +144°, elevation 0°"
    tab.canvas.focus()
    tab.page.keyboard.press("Home")
    tab.view()
    assert float(tab.page.locator("#orbit-azimuth").input_value()) == 0


def test_spin_runs_until_stopped(tab: Tab):
    """The button toggles the spin and its pressed state."""
    tab.view()
    button = tab.page.locator("#orbit-spin")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    tab.wait("document.getElementById('orbit').dataset.view !== '5'")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    tab.view()


def test_another_head_keeps_the_angle(tab: Tab, data: ReportData):
    """A click on the contact sheet changes the head and keeps the view."""
    tab.view()
    tab.page.locator("#orbit-azimuth").fill("72")
    view = tab.view()
    tab.page.locator('a[data-head="1"]').click()
    tab.wait("document.getElementById('orbit-head').textContent === 'procedural-000001'")
    assert tab.view() == view
    inside = data.orbit.heads[1].mask[view] == 255
    assert np.median(np.abs(tab.pixels()[..., :3].astype(int) - data.orbit.heads[1].rgb[view])[inside]) < 8
    assert tab.page.locator('input[name=orbit-head][value="1"]').is_checked()


def test_page_makes_no_network_request(tab: Tab):
    """The page loads no other resource."""
    tab.view()
    tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.page.wait_for_timeout(100)
    assert all(url.startswith(("file:", "data:", "blob:")) for url in tab.requests)


def test_curve_value_is_shown_under_the_pointer(tab: Tab):
    """Pointing at the middle of the curve shows a step near the middle."""
    drawing = tab.page.locator("svg.wide").first
    drawing.scroll_into_view_if_needed()
    drawing.hover()
    step = int(tab.page.locator(".key output").first.inner_text().split()[1].strip(":"))
    assert 270 < step < 350


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_page_fits_and_does_not_shift(browser, address: str, size: dict, scheme: str):
    """No horizontal scrolling, no layout shift, and the background follows the system's colour scheme."""
    context = browser.new_context(viewport=size, color_scheme=scheme)
    tab = Tab(context, address)
    tab.view()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    paper = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(value) for value in paper[4:-1].split(",")])
    assert (brightness > 200) == (scheme == "light")
    assert tab.page.evaluate("window.shift") < 0.01
    assert tab.messages == []
    context.close()


def test_touch_rotates_the_head(browser, address: str, data: ReportData):
    """Moving a touch rotates the head and does not scroll the page."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    tab = Tab(context, address)
    tab.view()
    tab.canvas.scroll_into_view_if_needed()
    box, before = tab.canvas.bounding_box(), tab.page.evaluate("scrollY")
    session = context.new_cdp_session(tab.page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    turn = box["width"] * 72 / 260

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": px, "y": py} for px, py in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", (x, y))
    for share in (0.25, 0.5, 0.75, 1.0):
        touch("touchMove", (x + share * turn, y))
    tab.page.wait_for_timeout(120)
    touch("touchEnd")
    assert tab.view() == view_at(data, -72, 0)
    assert tab.page.evaluate("scrollY") == before
    context.close()


def test_page_works_without_scripts(browser, address: str):
    """Curve and tables need no JavaScript; the viewer states that it does."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    tables = page.locator("table.metrics").all()
    assert [table.is_visible() for table in tables] == [True, True]  # of the evaluation and of the ablation
    assert page.locator("svg.wide").is_visible()
    assert "The viewer requires JavaScript" in page.locator("noscript").text_content()
    context.close()


def test_print_is_light_with_details_open(browser, address: str):
    """Printing in dark mode gives a light page without controls and with all parameters expanded."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="dark")
    tab = Tab(context, address)
    tab.view()
    tab.page.emulate_media(media="print")
    assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not tab.page.locator("nav").is_visible()
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.page.locator("details.profile pre").first.is_visible()
    context.close()


COMPARED = """(panel) => {
    const canvas = document.querySelector(`[data-panel=${panel}] canvas`), pen = canvas.getContext("2d");
    return [canvas.width, ...pen.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def compared(tab: Tab, panel: str, stop: int) -> np.ndarray:
    """The pixels of a panel of the comparison, as soon as it shows this stop."""
    tab.wait(f"document.getElementById('compare').dataset.stop === '{stop}'")
    side, *pixels = tab.page.evaluate(COMPARED, panel)
    return np.array(pixels, np.uint8).reshape(side, side, 4)[..., :3].astype(int)


def test_one_slider_turns_truth_model_and_baseline(tab: Tab, data: ReportData):
    """At each stop the panels show one view: the truth, what the model made of it, and the nearest input."""
    views = data.novel_views[0]
    order = np.argsort(180 - (180 - views.azimuth_deg) % 360)
    tab.page.locator("#compare").scroll_into_view_if_needed()
    front = int(np.argmin(np.abs(180 - (180 - views.azimuth_deg[order]) % 360)))
    for key, stop in (("", front), ("ArrowRight", front + 1), ("ArrowRight", front + 2), ("Home", front)):
        if key:
            tab.page.locator(".panels").press(key)
        for panel, truth in (
            ("truth", views.true_rgb[order[stop]]),
            ("model", views.generated_rgb[order[stop]]),
            ("baseline", views.input_rgb[0]),
        ):
            assert np.abs(compared(tab, panel, stop) - truth).mean() < 12
    tab.page.locator("#compare-view").fill("0")
    assert np.abs(compared(tab, "truth", 0) - views.true_rgb[order[0]]).mean() < 12
    captions = tab.page.locator(".panels output").all_inner_texts()
    assert captions == ["", f"{views.psnr['model'][order[0]]:.1f} dB", "9.0 dB"]


def test_comparison_shows_normals_differences_and_other_heads(tab: Tab, data: ReportData):
    """Normals of truth and model, no baseline's; the difference of a model that adds noise is dark, not zero."""
    tab.page.locator("#compare-head").select_option("1")
    views = data.novel_views[1]
    order = np.argsort(180 - (180 - views.azimuth_deg) % 360)
    stop = int(tab.page.locator("#compare-view").input_value())
    tab.page.locator("input[name=compare-mode][value=normals]").check(force=True)
    tab.wait("document.querySelector('[data-panel=baseline] output').textContent === 'no normals'")
    assert np.abs(compared(tab, "truth", stop) - views.true_normals[order[stop]]).mean() < 12
    tab.page.locator("input[name=compare-mode][value=difference]").check(force=True)
    tab.wait("document.querySelector('[data-panel=baseline] output').textContent !== 'no normals'")
    wanted = np.abs(views.generated_rgb[order[stop]].astype(int) - views.true_rgb[order[stop]])
    found = compared(tab, "model", stop)
    assert found.mean() == pytest.approx((3 * wanted).clip(0, 255).mean(), rel=0.25)


def test_dragging_across_the_comparison_turns_it(tab: Tab):
    """To the left is the next view, and the page does not move."""
    panels = tab.page.locator(".panels")
    panels.scroll_into_view_if_needed()
    start = int(tab.page.locator("#compare-view").input_value())
    box, top = panels.bounding_box(), tab.page.evaluate("scrollY")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 3
    tab.page.mouse.move(x, y)
    tab.page.mouse.down()
    tab.page.mouse.move(x - box["width"] / 4, y, steps=5)
    tab.page.mouse.up()
    assert int(tab.page.locator("#compare-view").input_value()) == start + 2
    assert tab.page.evaluate("scrollY") == top
