"""Guards `output_since`: a stage that gives other output for equal inputs must say so, or old work would pass for new.

What every stage makes of a few pictures is held against `tests/curation/outputs/digests.json`, by content: rows and
members, not the bytes of Parquet, which another Arrow may write otherwise. A change that is meant is told by a new
`output_since` in `curation/dataset/stages.py` and the digest that the failing test prints.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.commands.caption.stage import caption
from curation.commands.curate.stage import curate
from curation.commands.fetch.stage import fetch
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import rank
from curation.dataset.manifest import read_manifest
from curation.dataset.stages import CARD_NAME, CURATE, STAGES, Stage
from curation.dataset.tar import read_samples
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from demo.server import serve
from tests.curation.commands.caption.model_server import address_of, model_server
from tests.curation.shards import recipe_from, sample_members, write_shard
from tests.curation.whole_run import WAIVER, write_metadata
from tests.places import ROOT

OUTPUTS = ROOT / "tests" / "curation" / "outputs"
RECORDED: Mapping[str, str] = json.loads((OUTPUTS / "digests.json").read_text())
PICTURES = sorted(path for path in OUTPUTS.iterdir() if path.suffix != ".json")
ALONE = Spread(num_workers=0)
RECIPE = """
schema_version = 1
name = "outputs"
[rank]
top = 6
rows_per_part = 4
[fetch]
num_retries = 0
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[pack]
num_shard_samples = 2
"""
CAPTION = """
[caption]
model = "tiny"
revision = "r1"
prompt = "Describe the picture."
num_requests = 1
"""
NOT_OURS = frozenset({"headers", "num_bytes_sent", "caption_time"})
"""Columns that a web server decides, or the clock."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run every stage; `fetch` from a real server, whose port is taken out of what is compared."""
    folder = tmp_path_factory.mktemp("outputs")
    recipe = recipe_from(folder, RECIPE)
    rank(*write_metadata(folder, 6), folder / "rank", recipe)
    write_shard(folder / "in", "00000", [_members(number, path) for number, path in enumerate(PICTURES)])
    curate(folder / "in", folder / "curate", recipe, ALONE)
    pack(folder / "curate", folder / "pack", recipe, ALONE)
    _fetch(folder, recipe)
    with model_server() as server:
        caption(folder / "curate", recipe_from(folder / "asks", RECIPE + CAPTION), ALONE, endpoint=address_of(server))
    return {name: folder / name for name in STAGES}


def _members(number: int, path: Path) -> list[tuple[str, bytes]]:
    return sample_members(f"{number:05d}", path.read_bytes(), path.suffix[1:])


def _fetch(folder: Path, recipe: Recipe) -> None:
    with serve(OUTPUTS) as server:
        urls = [f"{server.base_url}/images/{path.name}" for path in PICTURES] + [f"{server.base_url}/images/none.jpg"]
        (folder / "web").mkdir()
        selected = rank(*write_metadata(folder / "web", 0, urls), folder / "web" / "rank", recipe)
        assert selected.num_kept == 6
        fetch(folder / "web" / "rank", folder / "fetch", recipe, ALONE, waiver=WAIVER, allow_loopback=True)


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_equal_inputs_give_the_output_that_is_recorded_for_this_version(stage: Stage, folders: dict[str, Path]) -> None:
    name, found = f"{stage.name} {stage.output_since}", _digest(folders[stage.name])
    assert RECORDED.get(name) == found, (
        f"{stage.name}: equal inputs give other output than release {stage.output_since} gave. If that is meant, let "
        f"output_since of {stage.name} in curation/dataset/stages.py name the coming release, and record "
        f'"{stage.name} RELEASE": "{found}" in tests/curation/outputs/digests.json'
    )


def test_every_stage_is_guarded() -> None:
    assert {name.split()[0] for name in RECORDED} == set(STAGES)


def test_a_folder_with_output_of_another_version_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_from(tmp_path, RECIPE)
    write_shard(tmp_path / "in", "00000", [_members(0, PICTURES[0])])
    with monkeypatch.context() as patch:
        patch.setattr("curation.commands.curate.work.CURATE", replace(CURATE, output_since="0.0.9"))
        curate(tmp_path / "in", tmp_path / "out", recipe, ALONE)
    with pytest.raises(UsageError, match="holds the output of other work"):
        curate(tmp_path / "in", tmp_path / "out", recipe, ALONE)


def _digest(folder: Path) -> str:
    """Return the sha256 of all rows and members of a stage's folder, without what a server's port decides."""
    manifest, lines = read_manifest(folder), []
    uids: dict[str, int] = {}
    for name in sorted(manifest.file_names):
        if name.endswith(".parquet"):
            lines += [_line(row, uids) for row in pq.read_table(folder / name, partitioning=None).to_pylist()]
        elif name != CARD_NAME:
            lines += [
                _line({"key": s.key, "sha256": _sha256(s.image_bytes), "json": s.metadata, "txt": s.caption}, uids)
                for s in read_samples(folder / name)
            ]
    return _sha256("\n".join(lines).encode())


def _line(row: Mapping[str, Any], uids: dict[str, int]) -> str:
    text = json.dumps({name: _plain(value) for name, value in row.items() if name not in NOT_OURS}, sort_keys=True)
    text = re.sub(r"127\.0\.0\.1:\d+", "server", text)
    return re.sub(r"\b[0-9a-f]{32}\b", lambda uid: f"uid{uids.setdefault(uid[0], len(uids))}", text)


def _plain(value: Any) -> Any:
    """Return a value with its floats cut to nine digits: more of them depend on the CPU."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
