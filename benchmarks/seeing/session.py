"""A whole session as a user has it, by commands, keys and clicks, and how long each step takes.

    python -m benchmarks.seeing.session [--work FOLDER] [--shots docs] [--out benchmarks/results/session.json]

`look` at a folder of the demo's pictures; in a real Chromium label 100 by keyboard, take one back, reload, label again
as somebody else, read kappa, ask what another limit would do and write it as a recipe; `calibrate`, `teach`, the map by
features; `decide`, `report --against` what was before, `pack`, `card`, `publish` to a hub of this machine, and
`datasets` reads it back. Labels are the truth of the corpus, but for every tenth. A caption attacks; no request may
leave a page. Seconds are of the clock; the load of the machine stands beside them.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow.parquet as pq

from benchmarks.provenance import RESULTS, ROOT, commit, machine
from demo import photos
from demo.corpus import build
from tests.chromium import CHROMIUM, FLAGS
from tests.hub_server import TOKEN, HubServer, hub

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

T = TypeVar("T")
LABELS = ("single", "group", "noface", "drawn", "text", "bw", "sepia")
"""As the page offers them; the key of each is its place."""
PICTURE = re.compile(r"[a-z]+-\d{3}\.")
SAID_OF = {"masked": "single", "animal": "noface"}
NUM_SINGLE, NUM_PENCILLED, NUM_LABELS, NUM_SECOND = 38, 10, 100, 40
REPO, DAY = "somebody/faces", "2026-11-30"
ATTACK = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
SHOT_COLOURS = (256, 128, 64, 32)
MAX_SHOT_BYTES = 190_000
READ = f"import datasets; print(datasets.load_dataset({REPO!r}, split='train').num_rows)"


@dataclass
class Session:
    """What is on the way: where things lie, and what was found out."""

    work: Path
    shots: Path | None
    seconds: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)
    requests: set[str] = field(default_factory=set)
    """What pages asked for beside their own address."""

    @property
    def run(self) -> Path:
        """The run that is looked at."""
        return self.work / "run"

    @property
    def labels(self) -> Path:
        """What was labelled."""
        return self.run / "review" / "labels.jsonl"

    def timed(self, name: str, act: Callable[[], T]) -> T:
        """Do a step, and remember how long it took."""
        started = time.perf_counter()
        done = act()
        self.seconds[name] = round(time.perf_counter() - started, 2)
        print(f"{name}: {self.seconds[name]} s", flush=True)
        return done

    def command(self, name: str, *words: object, **variables: str) -> str:
        """Call the command line as a user does, and return what it printed."""
        call = [sys.executable, "-m", "cli", *map(str, words)]
        done = self.timed(name, lambda: subprocess.run(
            call, capture_output=True, text=True, check=False, cwd=self.work, env=_environment(**variables)
        ))  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{' '.join(call)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the session; end with 0 where every step did what it should."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeing.session", description=__doc__)
    parser.add_argument("--work", type=Path, help="where the run stays; else it goes")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the pages")
    parser.add_argument("--out", type=Path, default=RESULTS / "session.json")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        session = Session((chosen.work or Path(folder)).resolve(), chosen.shots)
        session.work.mkdir(parents=True, exist_ok=True)
        whole(session)
    result = {
        "machine": machine(), "commit": commit(), "load_average": [round(load, 1) for load in os.getloadavg()],
        "seconds": session.seconds, "total_s": round(sum(session.seconds.values()), 1), **session.found,
    }  # fmt: skip
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def whole(session: Session) -> None:
    """Go through all steps."""
    said = session.timed("pictures", lambda: write_pictures(session.work))
    shutil.rmtree(session.run, ignore_errors=True)
    session.command("look", "look", "photos", "--out", "run", "--recipe", "demo", "--workers", 0, "--no-serve")
    said_of = uids_of(session.run, said)
    with chromium() as browser:
        with page_of(session, browser) as page:
            label_and_ask(session, page, said_of)
        calibrate_and_teach(session)
        with page_of(session, browser) as page:
            session.timed("map by features", lambda: lasso(session, page))
        decide_anew(session)
        session.timed("report, seen", lambda: see_report(session, browser))
    publish(session)
    assert not session.requests, session.requests
    session.found["requests_that_left_a_page"] = len(session.requests)


def write_pictures(work: Path) -> dict[str, str]:
    """Write the demo's pictures into `photos`, each with a caption, and return sha256 -> label."""
    folder = work / "photos"
    if not folder.is_dir():  # else they are those of a session before
        _draw_pictures(work / "corpus", folder)
    said = {}
    for number, path in enumerate(sorted(path for path in folder.iterdir() if path.suffix != ".txt")):
        label = path.name.partition("-")[0]
        said[hashlib.sha256(path.read_bytes()).hexdigest()] = SAID_OF.get(label, label)
        caption = ATTACK if number == 0 else f"A picture of the demo, number {number}\nin two lines"
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return said


def _draw_pictures(corpus: Path, folder: Path) -> None:
    """Build the demo's corpus; take all but the larger portraits, and more drawings in pencil than it has."""
    files = [path for path in build(corpus, "http://127.0.0.1:1").pictures.iterdir() if PICTURE.match(path.name)]
    single = sorted((path for path in files if path.name.startswith("single-")), key=lambda path: path.stat().st_size)
    folder.mkdir()
    for path in set(files) - set(single[NUM_SINGLE:]):
        shutil.copy(path, folder)
    chance, people = random.Random(7), (photos.hopper(), photos.astronaut())
    for number in range(NUM_PENCILLED):
        portrait = photos.scaled_to(photos.cropped_around_face(people[number % 2], chance), 512)
        photos.pencilled(portrait).image.save(folder / f"drawn-p{number}.jpg", quality=90)


def uids_of(run: Path, said: Mapping[str, str]) -> dict[str, str]:
    """Return uid -> label."""
    tables = [pq.read_table(path, columns=["uid", "sha256"]) for path in sorted((run / "curate").glob("*.parquet"))]
    return {row["uid"]: said[row["sha256"]] for table in tables for row in table.to_pylist() if row["sha256"] in said}


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def page_of(session: Session, browser: "Browser") -> Iterator["Page"]:
    """Serve the review page by its command, and open it at the address that this prints."""
    call = [sys.executable, "-m", "cli", "review", str(session.run), "--reviewer", "ada", "--num", str(NUM_LABELS)]
    server = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=_environment(), cwd=session.work)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    page.set_default_timeout(120_000)
    page.on("request", lambda one: session.requests.add(one.url) if one.url.split("?")[0].startswith("http")
            and not one.url.startswith(address.partition("?")[0]) else None)  # fmt: skip
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    try:
        yield page
        assert page.title().startswith("Review"), page.title()
    finally:
        page.close()
        server.send_signal(2)
        server.wait()


def label_and_ask(session: Session, page: "Page", said_of: Mapping[str, str]) -> None:
    """Label, take back, reload, label as a second reviewer, read kappa, move a limit, and write a recipe."""
    taken = session.timed("100 labels by keyboard", lambda: label_by_keys(page, said_of, 0, NUM_LABELS))
    session.found["seconds_a_label"] = {"median": statistics.median(taken), "max": max(taken)}
    page.keyboard.press("u")
    at(page, NUM_LABELS - 1)
    for key in "vblti":
        page.keyboard.press(key)
    shoot(session, page, "review-queue")
    page.keyboard.press("i")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    label_by_keys(page, said_of, NUM_LABELS - 1, NUM_LABELS)
    page.fill("#reviewer", "bob")
    page.press("#reviewer", "Tab")
    at(page, 0)
    label_by_keys(page, said_of, 0, NUM_SECOND, wrong_each=10)
    page.set_viewport_size({"width": 390, "height": 780})
    shoot(session, page, "review-narrow")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.click("nav [data-view=agreement]")
    session.found["agreement"] = " ".join(page.inner_text(".kappa").split())
    page.click("nav [data-view=gallery]")
    page.wait_for_selector(".tile")
    session.timed("what-if, one limit", lambda: move(page, "colour.toning_residual", "20"))
    session.found["what_if"] = " ".join(page.inner_text("#summary").split())
    shoot(session, page, "review-gallery")
    page.fill("#recipe-name", "bolder")
    page.click("#write button")
    page.wait_for_selector("#written:not([hidden])")


def label_by_keys(
    page: "Page", said_of: Mapping[str, str], first: int, last: int, wrong_each: int | None = None
) -> list[float]:
    """Give the right label to what is shown until `last` have one, and return the seconds that each took."""
    taken = []
    for number in range(first, last):
        source = page.get_attribute("#stage img", "src") or ""
        label = said_of[source.rpartition("/")[2]]
        place = LABELS.index(label)
        is_wrong = wrong_each is not None and number % wrong_each == 0
        started = time.perf_counter()
        page.keyboard.press(str((place + is_wrong) % len(LABELS) + 1))
        at(page, number + 1)
        taken.append(round(time.perf_counter() - started, 3))
    return taken


def at(page: "Page", done: int) -> None:
    """Wait until the page says that so many of the queue are labelled, and shows what comes next."""
    page.wait_for_function("done => document.querySelector('#progress').value === done", arg=done)
    if done < NUM_LABELS:
        page.wait_for_selector("#stage:not(.waiting) img")


def move(page: "Page", name: str, value: str) -> None:
    """Set a limit, and wait for what it would do."""
    before = page.inner_text("#summary")
    page.fill(f"[data-limit='{name}'] input[type=number]", value)
    page.press(f"[data-limit='{name}'] input[type=number]", "Tab")
    page.wait_for_function("before => document.querySelector('#summary').innerText !== before", arg=before)


def calibrate_and_teach(session: Session) -> None:
    """Ask the labels for a limit, and teach a class by them."""
    told = session.command(
        "calibrate", "calibrate", session.labels, "run", "--filter", "drawn", "--score", "drawn_logit",
        "--precision", 0.9, "--out", "thresholds.lock.toml", "--json",
    )  # fmt: skip
    (limit,) = json.loads(told)["limits"]
    session.found["calibrated"] = {name: limit[name] for name in ("max", "precision", "recall", "num_sources")}
    told = session.command(
        "teach", "teach", session.labels, "run", "--label", "drawn", "--against", "single", "--head", "sketch",
        "--out", "sketch.json", "--queue", 5, "--source", "photos", "--json",
    )  # fmt: skip
    session.found["taught"] = {"auc": json.loads(told)["auc"]}


def lasso(session: Session, page: "Page") -> None:
    """Draw around all of the map, and show what is inside in the gallery."""
    page.click("nav [data-view=map]")
    page.wait_for_selector("#map-basis:has-text('network')")
    session.found["map"] = page.inner_text("#map-basis")
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in (*places[1:], places[0]):
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    page.wait_for_selector("#show-lassoed:not([hidden])")
    session.found["lassoed"] = page.inner_text("#num-lassoed")
    shoot(session, page, "review-map")
    page.click("#show-lassoed")
    page.wait_for_selector(".tile")


def decide_anew(session: Session) -> None:
    """Judge the run by the recipe that the page wrote, and hold it against what it was."""
    shutil.copytree(session.run, session.work / "before")
    recipe = ("--recipe", session.run / "review" / "bolder.toml")
    session.command("decide --dry-run", "decide", "run", *recipe, "--source", "photos", "--dry-run")
    session.command("decide", "decide", "run", *recipe, "--source", "photos", "--workers", 0)
    session.command("report --against", "report", "run", "--against", "before", "--source", "photos")
    session.command("pack", "pack", "run/curate", "run/pack", *recipe, "--workers", 0)


def see_report(session: Session, browser: "Browser") -> None:
    """Open the report as a file."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.on("request", lambda one: session.requests.add(one.url) if one.url.startswith("http") else None)
    page.goto((session.run / "report" / "index.html").as_uri())
    assert "owned" not in page.title()
    page.get_by_role("heading", name="Against another run").wait_for()
    page.close()


def publish(session: Session) -> None:
    """Write the card, hold it against the ledgers, send all to a hub of this machine, and read it from there."""
    session.command("card", "card", "run/pack", "--out", "card", "--date", DAY)
    session.command("card --check", "card", "run/pack", "--out", "card", "--check")
    session.command("publish, dry", "publish", "run/pack", REPO, "--card", "card", "--workers", 0)
    with hub() as server:
        variables = _of_hub(server, session.work)
        session.command("publish", "publish", "run/pack", REPO, "--card", "card", "--workers", 0, "--yes", **variables)
        read = session.timed("datasets reads it", lambda: subprocess.run(
            [sys.executable, "-c", READ], env=_environment(**variables), capture_output=True, text=True, check=True
        ))  # fmt: skip
    session.found["read_back"] = int(read.stdout.split()[-1])
    assert session.found["read_back"] == pq.read_metadata(session.run / "pack" / "index.parquet").num_rows > 0


def shoot(session: Session, page: "Page", name: str) -> None:
    """Keep a picture of the page, in as few colours as make it small."""
    if session.shots is None:
        return
    from PIL import Image

    page.wait_for_timeout(500)
    session.shots.mkdir(parents=True, exist_ok=True)
    path = session.shots / f"{name}.png"
    page.screenshot(path=path)
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    for colours in SHOT_COLOURS:
        rgb.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= MAX_SHOT_BYTES:
            break


def _environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}


def _of_hub(server: HubServer, folder: Path) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return {"HF_ENDPOINT": server.address, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hub"), **offline}


if __name__ == "__main__":
    sys.exit(main())
