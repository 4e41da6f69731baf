import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from curation.serving.serve import page_server
from facemakeup.studio.app import build_app
from facemakeup.studio.studio import StudioDesk
from tests.chromium import CHROMIUM, FLAGS
from tests.filters.marks import astronaut, with_centerface
from tests.pictures import encode

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
HOSTILE = "<img src=x onerror=\"document.title='owned'\">.png"
SHOTS = os.environ.get("FACECAPTIONHQ_SHOTS")
"""A folder for pictures of the page, for whoever wants to look at it."""


@pytest.fixture
def address(studio: StudioDesk) -> Iterator[str]:
    """Where the page is served."""
    with page_server("studio", lambda known: build_app(studio, known)) as (server, where):
        thread = threading.Thread(target=server.run)
        thread.start()
        yield where
        server.stop()
        thread.join()


@pytest.fixture
def page() -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def add_photos(page: "Page") -> None:
    photos = [("person.png", astronaut()), (HOSTILE, np.ascontiguousarray(astronaut()[:, ::-1]))]
    files: Any = [{"name": name, "mimeType": "image/png", "buffer": encode(picture, "png")} for name, picture in photos]
    page.set_input_files("#photos", files)
    page.wait_for_selector(".face:nth-child(2) img")
    assert page.inner_text(".face:nth-child(2) .called") == HOSTILE
    page.locator(".face:nth-child(2) [type=range]").fill("0.4")
    assert page.inner_text(".face:nth-child(2) output") == "0.40"


def pose_by_hand_and_by_keys(page: "Page") -> list[list[float]]:
    """Take the pose of a photo, drag the nose to the right, push the left eye up by keys; return both points."""
    page.click(".face:nth-child(1) button:has-text('pose')")
    nose, eye = page.locator("#skeleton .point").nth(2), page.locator("#skeleton .point").nth(0)
    nose.scroll_into_view_if_needed()
    before, frame = nose.bounding_box(), page.locator("#skeleton").bounding_box()
    assert before is not None and frame is not None
    x, y = before["x"] + before["width"] / 2, before["y"] + before["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + frame["width"] / 4, y, steps=3)
    page.mouse.up()
    eye.focus()
    for key in ("ArrowUp", "Shift+ArrowUp"):
        page.keyboard.press(key)
    return [[float(point.get_attribute(name) or 0) / 1000 for name in ("cx", "cy")] for point in (nose, eye)]


def drawn(page: "Page", num: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#told")).to_contain_text(f"{num} of {num}", timeout=60_000)
    expect(page.locator("#told")).to_contain_text("done", timeout=60_000)
    expect(page.locator("#pictures img")).to_have_count(num)
    assert page.eval_on_selector_all("#pictures img", "all => all.every((one) => one.naturalHeight > one.naturalWidth)")


@with_centerface
def test_a_person_is_mixed_posed_by_hand_and_keys_and_drawn_in_a_grid(
    studio: StudioDesk, address: str, page: "Page", tmp_path: Path
) -> None:
    requests: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    assert "token" not in page.url
    page.click("summary:has-text('Size')")
    page.fill("#steps", "2")
    add_photos(page)
    page.click("#draw")  # without consent the browser itself does not send it
    assert studio.state() == {"name": None}
    page.fill("#consent", "she signed a release")
    page.select_option("#style", "pencil")
    nose, eye = pose_by_hand_and_by_keys(page)
    page.fill("#scale-clip", "0.5")
    page.click("#grid summary")
    page.select_option("#row-scale", "face")
    page.select_option("#column-scale", "pose")
    page.keyboard.press("Control+Enter")
    drawn(page, 6)
    record = json.loads((tmp_path / "drawings" / "00001" / "generate.json").read_text())
    assert record["pose"][2] == pytest.approx(nose) and record["pose"][0] == pytest.approx(eye)
    points = studio.faces.all_of(list(studio.faces._faces))[0].points(1.5)
    assert nose[0] == pytest.approx(points[2][0] + 0.25, abs=0.01) and eye[1] == pytest.approx(points[0][1] - 0.06)
    assert [face["weight"] for face in record["faces"]] == [1, 0.4]
    asked = [(one["scales"]["face"], one["scales"]["clip"], one["scales"]["pose"]) for one in record["requests"]]
    assert asked == [(face, 0.5, pose) for face in (0.5, 1) for pose in (0, 0.5, 1)]
    assert record["requests"][0]["consent"] == "she signed a release" and page.title() == "Studio: adapter"
    shoot(page)
    assert faults == []
    assert [url for url in requests if not url.startswith(address.partition("?")[0])] == []


def shoot(page: "Page") -> None:
    for width, height in ((1280, 1320), (390, 900)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if SHOTS:
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=f"{SHOTS}/studio-{width}.png", full_page=width < 600)
