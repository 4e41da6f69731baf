import io
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.report import write_report
from tests.curation.report_run import edit_manifest, write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


class Listener(ThreadingHTTPServer):
    """A server that remembers what it was asked for."""

    paths: list[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


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
    server = Listener(("127.0.0.1", 0), Remember)
    server.paths = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("browser") / "run"))


def browse(page: Path, profile: Path, *action: str) -> str:
    """Open a page in a fresh profile and return what Chromium prints."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *action, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def photograph(page: Path, folder: Path, *flags: str, height: int = 900) -> np.ndarray:
    """Return a screenshot of the top of a page, uint8, shape (height, 1200, 3)."""
    target = folder / "screenshot.png"
    browse(page, folder / "profile", f"--screenshot={target}", f"--window-size=1200,{height}", *flags)
    return np.array(Image.open(io.BytesIO(target.read_bytes())).convert("RGB"))


def attacks(address: str) -> list[str]:
    """Return texts that run or load something if any of them is taken for HTML."""
    return [
        f"<script>document.title='owned';new Image().src='{address}/script'</script>",
        f"<img src='{address}/image' onerror=\"document.title='owned'\">",
        f"</title></style></svg><link rel=stylesheet href='{address}/style'><iframe src='{address}/frame'></iframe>",
        f"<svg onload=\"document.title='owned'\"><image href='{address}/svg'/></svg>",
        "<a href=\"javascript:document.title='owned'\" autofocus onfocus=\"document.title='owned'\">press</a>",
    ]


def test_the_attacks_work_where_nothing_stops_them(tmp_path: Path, listener: Listener) -> None:
    bare = tmp_path / "bare.html"
    bare.write_text("<!doctype html><title>honest</title>" + "".join(attacks(listener.address)))
    dom = browse(bare, tmp_path / "profile", "--dump-dom")
    assert "<title>owned</title>" in dom
    assert {"/script", "/image", "/style", "/frame"} <= set(listener.paths)


def test_hostile_text_neither_runs_nor_loads_anything(tmp_path: Path, listener: Listener) -> None:
    run = write_run(tmp_path / "run")
    texts = attacks(listener.address)
    edit_manifest(run / "curate", lambda v: v.update(failed=dict(zip(texts, texts, strict=True))))
    edit_manifest(run / "fetch", lambda v: v["rejected"].update({text: {text: 0} for text in texts}))
    edit_manifest(run / "rank", lambda v: v["extra"].update(faults={"facecaption": dict.fromkeys(texts, 1)}))
    dom = browse(write_report(run), tmp_path / "profile", "--dump-dom")
    assert "<title>Curation report: report-test</title>" in dom
    assert "&lt;script&gt;" in dom and "<script" not in dom
    assert listener.paths == []


def test_the_page_is_drawn_in_light_and_dark(page: Path, tmp_path: Path) -> None:
    light = photograph(page, tmp_path)
    dark = photograph(page, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert light[:20, :20].mean() > 200
    assert dark[:20, :20].mean() < 60
    assert all(len(np.unique(picture.reshape(-1, 3), axis=0)) > 100 for picture in (light, dark))


def test_pictures_are_blurred_until_the_box_is_checked(page: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked.html"
    asked.write_text(page.read_text().replace('id="reveal-all"', 'id="reveal-all" checked'))
    blurred, sharp = (photograph(one, tmp_path, height=3000) for one in (page, asked))
    where = np.abs(blurred.astype(int) - sharp.astype(int)).max(axis=2) > 40
    assert where.sum() > 10_000

    def roughness(picture: np.ndarray) -> float:
        return float(np.abs(np.diff(picture.astype(int), axis=1))[where[:, 1:]].mean())

    assert roughness(sharp) > 2 * roughness(blurred)
