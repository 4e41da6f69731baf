"""The demo's own arithmetic: it notices a lost image, and comes back to the port that its metadata names."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from curation.commands.fetch.stage import fetch
from curation.commands.rank.stage import rank
from curation.dataset.manifest import Manifest
from curation.run.runner import Spread
from demo.corpus import build
from demo.run import DemoError, _server, funnel, labels, published, require_conservation
from demo.server import serve
from tests.curation.shards import recipe_from
from tests.places import ROOT

RECIPE = """
schema_version = 1
name = "demo-arithmetic"
[rank]
top = 120
[fetch]
timeout_s = 1
num_retries = 1
retry_wait_s = 0
[[filters]]
name = "colour"
"""


@pytest.mark.slow
def test_the_tables_of_rank_and_fetch_add_up_to_the_truth(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    recipe = recipe_from(tmp_path, RECIPE)
    with serve(tmp_path / "images") as server:
        corpus = build(tmp_path, server.base_url)
        selected = rank(corpus.facecaption, corpus.laion, tmp_path / "rank", recipe)
        fetched = fetch(
            tmp_path / "rank", tmp_path / "fetch", recipe, Spread(num_workers=0), allow_loopback=True, waiver="drawn"
        )
    manifests = {"rank": selected, "fetch": fetched}
    require_conservation(manifests, tmp_path)
    assert funnel(manifests).row_count == 13
    by_label = labels(corpus.truth, tmp_path)
    assert [column.header for column in by_label.columns[1:]] == ["kept", "fetch", "rank"]
    with pytest.raises(DemoError, match="fetch saw 119"):
        require_conservation({"rank": selected, "fetch": one_lost(fetched)}, tmp_path)


ENDED = """
import signal, subprocess, sys
from curation.interrupts import heed_sigterm
from demo.run import run_command
heed_sigterm()
stage = '''
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("saved"), sys.exit(143)))
print("up", flush=True)
signal.pause()
'''
try:
    run_command([sys.executable, "-c", stage], {})
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.slow
def test_sigterm_at_the_demo_ends_the_stage_that_runs_before_the_demo_itself(tmp_path: Path) -> None:
    script = tmp_path / "ended.py"
    script.write_text(ENDED)
    there = {**os.environ, "PYTHONPATH": str(ROOT)}
    demo = subprocess.Popen([sys.executable, str(script)], env=there, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None and demo.stdout.readline() == "up\n"
    demo.terminate()
    assert demo.communicate()[0].splitlines() == ["saved", "interrupted"]


def one_lost(manifest: Manifest) -> Manifest:
    """The manifest of a stage that never saw one of its images."""
    return replace(manifest, num_seen=manifest.num_seen - 1, num_kept=manifest.num_kept - 1)


def test_a_second_demo_comes_back_to_the_port_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with _server(tmp_path) as first:
        pass
    with _server(tmp_path) as second:
        assert second.base_url == first.base_url
        with pytest.raises(DemoError, match="is taken"), _server(tmp_path):
            pass


def test_the_closing_words_ask_for_no_weights_that_are_here() -> None:
    assert published(Path("a/fetch"), Path("b"), []) == ["facecaptionhq curate a/fetch b --recipe facecaptionhq-4m"]
    pulled = published(Path("a"), Path("b"), ["lbpcascade_animeface", "yolov5n-0.5-face"])
    assert pulled[:2] == [
        "facecaptionhq models pull lbpcascade_animeface", "facecaptionhq models pull yolov5n-0.5-face --accept",
    ]  # fmt: skip
