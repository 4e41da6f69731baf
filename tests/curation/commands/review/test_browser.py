import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from curation.commands.curate.stage import curate
from curation.commands.review.app import build_app
from curation.commands.review.desk import Choices, open_desk
from curation.dataset.labels import read_labels
from curation.recipe.recipe import load_recipe
from curation.serving.serve import page_server
from tests.chromium import CHROMIUM, FLAGS
from tests.curation.commands.report.run import ALONE, RECIPE
from tests.curation.commands.report.test_browser import attacks
from tests.curation.shards import colourful, grey, recipe_from, sample_members, write_shard

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
ELSEWHERE = "http://127.0.0.1:9"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose captions attack."""
    samples = [sample_members(f"{i:05d}", colourful(i) if i % 3 else grey(i)) for i in range(12)]
    for sample, text in zip(samples, [*attacks(ELSEWHERE), "x" * 200_000, "\u202eevil\x1b[2J"], strict=False):
        sample[2] = (sample[2][0], text.encode())
    write_shard(tmp_path / "run" / "fetch", "00000", samples)
    curate(tmp_path / "run" / "fetch", tmp_path / "run" / "curate", recipe_from(tmp_path, RECIPE), ALONE)
    return tmp_path / "run"


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    """Where the page is served."""
    desk = open_desk(run, Choices("ada"))
    with page_server("review", lambda known: build_app(desk, known)) as (server, where):
        thread = threading.Thread(target=server.run)
        thread.start()
        desk.start()
        yield where
        server.stop()
        thread.join()
    desk.close()


@pytest.fixture
def page() -> Iterator["Page"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        opened = browser.new_page()
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def progress(page: "Page", done: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#progress")).to_have_js_property("value", done, timeout=60_000)
    expect(page.locator("#stage:not(.waiting) img")).to_have_count(1)


def label(page: "Page", keys: str, start: int = 0) -> None:
    for number, key in enumerate(keys, start + 1):
        page.keyboard.press(key)
        progress(page, number)


def label_as_two(page: "Page") -> None:
    """Label four pictures, one of them twice, reload, and label them again as somebody else."""
    label(page, "1211")
    page.keyboard.press("u")
    progress(page, 3)
    label(page, "2", 3)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    progress(page, 4)
    page.fill("#reviewer", "bob")
    page.press("#reviewer", "Tab")
    progress(page, 0)
    label(page, "1111")


def find_the_attack(page: "Page") -> None:
    from playwright.sync_api import expect

    page.click("nav [data-view=gallery]")
    page.wait_for_selector(".tile")
    page.fill("#caption", "onerror")
    expect(page.locator("#total")).to_have_text("1 picture", timeout=60_000)
    page.click(".tile .shot")
    page.wait_for_selector("dialog[open] .captions p")
    assert page.inner_text("#dialog-captions").startswith("<img src=")
    page.keyboard.press("Escape")


def move_a_limit(page: "Page") -> tuple[int, int]:
    """Return how many were kept, and how many would be."""
    from playwright.sync_api import expect

    kept, field = page.inner_text("#num-kept"), "[data-limit='colour.mean_channel_std'] input[type=number]"
    page.fill(field, "50")
    page.press(field, "Tab")
    expect(page.locator("#num-kept")).not_to_have_text(kept, timeout=60_000)
    return int(kept), int(page.inner_text("#num-kept"))


def test_a_session_in_the_browser_by_keys_and_clicks(run: Path, address: str, page: "Page") -> None:
    requests: list[str] = []
    faults: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    assert "token" not in page.url
    blurred = page.eval_on_selector("#stage img", "image => getComputedStyle(image).filter")
    page.keyboard.press("v")
    assert "blur" in blurred and page.eval_on_selector("#stage img", "i => getComputedStyle(i).filter") == "none"
    label_as_two(page)
    page.click("nav [data-view=agreement]")
    kappa = page.inner_text(".kappa")
    assert "Cohen's kappa 0.00" in kappa and "2 of 4 labels agree" in kappa
    find_the_attack(page)
    before, after = move_a_limit(page)
    page.fill("#recipe-name", "bolder")
    page.click("#write button")
    page.wait_for_selector("#written:not([hidden])")
    labels = read_labels(run / "review" / "labels.jsonl")
    said = {name: [label.label for label in labels if label.reviewer == name] for name in ("ada", "bob")}
    assert said == {"ada": ["single", "group", "single", "group"], "bob": ["single"] * 4}
    recipe = load_recipe(run / "review" / "bolder.toml")
    assert (recipe.criteria[0].keep.min, recipe.file.name) == (50.0, "bolder") and after < before
    assert faults == [] and page.title() == f"Review: {run.name}"
    assert [url for url in requests if not url.startswith(address.partition("?")[0])] == []
