import io
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from curation.commands.report.write import write_report
from tests.chromium import CHROMIUM, FLAGS
from tests.curation.commands.report.run import edit_manifest, write_run
from tests.serving import Web, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Listener(Web):
    """A server that remembers what it was asked for."""

    paths: list[str]


class Remember(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Listener)
        self.server.paths.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives it
        pass


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener(Remember)
    server.paths = []
    with serving(server):
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("browser") / "run"))


def pixels(png: bytes) -> np.ndarray:
    """Return a screenshot as uint8, shape (H, W, 3)."""
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))


def photograph(tile: "Locator") -> np.ndarray:
    """Return a tile's picture as it is drawn once its transition has ended."""
    tile.evaluate("tile => Promise.all(tile.getAnimations({subtree: true}).map(one => one.finished))")
    return pixels(tile.locator(".picture").screenshot())


def roughness(picture: np.ndarray) -> float:
    """Return the mean difference of neighbouring pixels, grey levels."""
    return float(np.abs(np.diff(picture.astype(int), axis=1)).mean())


def attacks(address: str) -> list[str]:
    """Return texts that run or load something if any of them is taken for HTML."""
    return [
        f"<script>document.title='owned';new Image().src='{address}/script'</script>",
        f"<img src='{address}/image' onerror=\"document.title='owned'\">",
        f"</title></style></svg><link rel=stylesheet href='{address}/style'><iframe src='{address}/frame'></iframe>",
        f"<svg onload=\"document.title='owned'\"><image href='{address}/svg'/></svg>",
        "<a href=\"javascript:document.title='owned'\" autofocus onfocus=\"document.title='owned'\">press</a>",
    ]


@pytest.mark.slow
def test_the_attacks_work_where_nothing_stops_them(tmp_path: Path, listener: Listener, browser: "Browser") -> None:
    bare = tmp_path / "bare.html"
    bare.write_text("<!doctype html><title>honest</title>" + "".join(attacks(listener.address)))
    with browser.new_page() as page:
        page.goto(bare.as_uri())
        page.wait_for_load_state("networkidle")
        assert page.title() == "owned"
    assert {"/script", "/image", "/style", "/frame"} <= set(listener.paths)


@pytest.mark.slow
def test_hostile_text_neither_runs_nor_loads_anything(tmp_path: Path, listener: Listener, browser: "Browser") -> None:
    run = write_run(tmp_path / "run")
    texts = attacks(listener.address)
    edit_manifest(run / "curate", lambda v: v.update(failed=dict(zip(texts, texts, strict=True))))
    edit_manifest(run / "fetch", lambda v: v["rejected"].update({text: {text: 0} for text in texts}))
    edit_manifest(run / "rank", lambda v: v["extra"].update(faults={"facecaption": dict.fromkeys(texts, 1)}))
    with browser.new_page() as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(write_report(run).as_uri())
        page.wait_for_load_state("networkidle")
        assert page.title() == "Curation report: report-test"
        assert "<script>document.title='owned'" in page.inner_text("body")
        assert page.locator("script").count() == 1, "the page's own, which its policy names by hash"
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert listener.paths == []


@pytest.mark.slow
def test_the_page_is_drawn_in_light_and_dark(report: Path, browser: "Browser") -> None:
    with browser.new_page() as page:
        page.goto(report.as_uri())
        page.emulate_media(color_scheme="light")
        light = pixels(page.screenshot())
        page.emulate_media(color_scheme="dark")
        dark = pixels(page.screenshot())
    assert light[:20, :20].mean() > 200
    assert dark[:20, :20].mean() < 60
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) > 100 for picture in (light, dark))


@pytest.mark.slow
def test_pictures_are_blurred_until_the_box_is_checked(report: Path, browser: "Browser") -> None:
    with browser.new_page() as page:
        page.goto(report.as_uri())
        tile = page.locator(".tile", has=page.locator("img")).first
        blurred = photograph(tile)
        page.locator("#reveal-all").check()
        sharp = photograph(tile)
    assert roughness(sharp) > 2 * roughness(blurred)


@pytest.mark.slow
def test_a_click_reveals_one_picture_and_no_other(report: Path, browser: "Browser") -> None:
    with browser.new_page() as page:
        page.goto(report.as_uri())
        tiles = page.locator(".tile", has=page.locator("img"))
        first, second = tiles.nth(0), tiles.nth(1)
        before = photograph(first), photograph(second)
        first.locator("input").check()
        after = photograph(first), photograph(second)
    assert roughness(after[0]) > 2 * roughness(before[0])
    assert np.array_equal(after[1], before[1])


@pytest.mark.slow
def test_keys_turn_large_pictures_and_filters_leave_what_fits_even_on_a_telephone(
    report: Path, browser: "Browser"
) -> None:
    with browser.new_page(viewport={"width": 390, "height": 844}) as page:
        page.goto(report.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        counts = page.locator(".losses td.n").first.bounding_box()
        assert counts is not None and counts["x"] + counts["width"] <= 390
        page.locator(".turn .open").first.click()
        first = page.evaluate("location.hash")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("location.hash") != first
        page.keyboard.press("ArrowLeft")
        large = page.locator(".tile:target")
        box = large.locator(".frame input")
        assert page.evaluate("location.hash") == first and not box.is_checked()
        page.keyboard.press(" ")
        assert box.is_checked()
        page.keyboard.press("Escape")
        assert page.locator(".tile:target").count() == 0
        page.select_option("#sift-reason", "kept")
        assert page.locator(".tile:not(.kept):visible").count() == 0 < page.locator(".tile.kept:visible").count()
        page.select_option("#sift-reason", "")
        page.select_option("#sift-score", "colour.mean_channel_std")
        page.fill("#sift-high", "1.9")
        assert page.locator(".tile.kept:visible").count() == 0 < page.locator(".tile:visible").count()
