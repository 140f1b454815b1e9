"""The viewer of splats in a real browser: its pixels are those of the rasteriser, and it follows mouse and keys."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spinmeround.models.geometry.cameras import orbit
from spinmeround.tasks.reconstruction.scores import drawn
from spinmeround.tasks.reconstruction.viewer import viewer_page
from tests.models.reconstruction.clouds import cloud
from tests.support.browser import WEBGL, launched

SIDE = 96
SPLATS = cloud(500, degree=2, dtype=torch.float32, scale=-4.2)


@pytest.fixture(scope="module")
def browser():
    with launched(WEBGL) as browser:
        yield browser


@pytest.fixture
def tab(browser, tmp_path: Path):
    """The open page, from a file; it must load nothing else and report no errors."""
    path = tmp_path / "viewer.html"
    path.write_text(viewer_page(SPLATS, SIDE, "a <cloud>", SIDE), encoding="utf-8")
    page = browser.new_page(viewport={"width": 800, "height": 900})
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    page.close()


def shown(page) -> np.ndarray:
    """The canvas over white, 0 to 255."""
    uri = page.evaluate("document.getElementById('splats').toDataURL('image/png')")
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"), float)


def angles(page) -> tuple[float, float]:
    """Azimuth and elevation once the last frame is drawn."""
    still(page)
    canvas = page.locator("#splats")
    return float(canvas.get_attribute("data-azimuth")), float(canvas.get_attribute("data-elevation"))


def still(page) -> None:
    """Wait until nothing moves, by polling: the page's policy forbids Playwright's wait_for_function."""
    for _ in range(400):
        if page.evaluate("document.getElementById('splats').dataset.moving === 'false'"):
            return
        page.wait_for_timeout(25)
    pytest.fail("the splats still move after 10 s")


def expected(azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    """The rasteriser's picture."""
    return drawn(SPLATS, orbit([azimuth_deg], [elevation_deg]), SIDE)[0][0].astype(float)


def test_the_canvas_shows_what_the_rasteriser_draws(tab) -> None:
    """Within two levels on average, as the canvas blends in 8 bits; from the front and after turning by keys."""
    tab.locator("#splats").focus()
    for keys in ((), ("ArrowRight",) * 9 + ("ArrowUp",) * 5, ("ArrowLeft",) * 26 + ("ArrowDown",) * 9):
        for key in keys:
            tab.keyboard.press(key)
        at = angles(tab)
        difference = np.abs(shown(tab) - expected(*at))
        assert difference.mean() < 2.0, at
        assert np.percentile(difference, 99) < 8.0, at
    assert at == (-85.0, -20.0)
    assert np.abs(expected(0.0, 0.0) - expected(*at)).mean() > 10


def test_it_turns_by_dragging_and_returns(tab) -> None:
    """A drag to the right turns the camera to the left, one down raises it; Home is the front."""
    box = tab.locator("#splats").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(middle[0] + 100, middle[1] + 50, steps=4)
    tab.mouse.up()
    assert angles(tab) == (-60.0, 20.0)
    tab.keyboard.press("Home")
    tab.locator("#splats").focus()
    tab.keyboard.press("Home")
    assert angles(tab) == (0.0, 0.0)


def test_the_wheel_zooms(tab) -> None:
    """Twice as near shows the middle half, with the pixels' blur enlarged as well."""
    before = shown(tab)
    tab.locator("#splats").hover()
    tab.mouse.wheel(0, -1000 * np.log(2))
    tab.wait_for_timeout(300)  # until the browser has passed the event on
    still(tab)
    middle = before[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4]
    enlarged = np.asarray(
        Image.fromarray(middle.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC), float
    )
    assert np.abs(shown(tab) - enlarged).mean() < 5
    assert np.abs(shown(tab) - before).mean() > 10


def test_it_spins_until_it_is_touched(tab) -> None:
    """The button turns the camera by itself; a key ends that."""
    tab.locator("#spin").click()
    tab.wait_for_timeout(1500)
    assert float(tab.locator("#splats").get_attribute("data-azimuth")) != 0
    tab.locator("#splats").focus()
    tab.keyboard.press("Home")
    assert angles(tab) == (0.0, 0.0)
    assert tab.locator("#spin").get_attribute("aria-pressed") == "false"
