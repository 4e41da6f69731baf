"""A small real run for the report: ranked and fetched by hand, then truly curated and packed."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.dataset.ledger import BASE_FIELDS, base_row, count_rejections, write_ledger
from curation.dataset.manifest import MANIFEST_NAME, ShardReport, read_manifest
from curation.dataset.sample import uid_of_url
from curation.dataset.stages import FETCH, RANK
from curation.dataset.tar import read_samples
from curation.measure.columns import ledger_schema
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from curation.run.target import Facts, finish
from curation.storage.publish import publish, publish_sealed, read_sealed, record_of
from tests.curation.shards import mixed_source, recipe_from

ALONE = Spread(num_workers=0)
RECIPE = """
schema_version = 1
name = "report-test"
description = "Keeps colour."
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
keep.toning_residual = { max = 45.0 }
"""
FAULTS = {"facecaption": {"box_broken": 3, "url_extra_text": 2}, "laion": {"no_size": 1}}


def write_run(run: Path, text: str = RECIPE) -> Path:
    """Write the four stages: rank and fetch lose some samples, curate loses grey, torn and doubled pictures."""
    recipe = recipe_from(run.parent / f"{run.name}-recipe", text)
    mixed_source(run / "fetch")
    num_fetched = finish_fetch(run / "fetch", recipe)
    finish_rank(run / "rank", recipe, num_fetched)
    curate(run / "fetch", run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    return run


def finish_fetch(folder: Path, recipe: Recipe) -> int:
    """Write ledgers and manifest for a folder of tars, with two dead addresses per shard; return the rows."""
    reports = []
    for tar in sorted(folder.glob("*.tar")):
        rows = [base_row(s.uid(tar.stem), s.key, url=s.url) for s in read_samples(tar)]
        for name, reason in (("gone", "http_404"), ("slow", "timeout")):
            url = f"http://example.org/{tar.stem}/{name}"
            rows.append(base_row(uid_of_url(url), f"{tar.stem}{name}", url=url, rejected_by="fetch", reason=reason))
        reports.append(_shard(folder, tar.stem, rows))
    return finish(folder, FETCH, recipe, "fetch", reports).num_seen


def finish_rank(folder: Path, recipe: Recipe, num_kept: int) -> None:
    """Write a ranking that kept `num_kept` images and left four out."""
    folder.mkdir()
    rows = [base_row(f"{i:032x}", str(i)) for i in range(num_kept)]
    rows += [base_row(f"a{i:031x}", f"a{i}", rejected_by="rank", reason="below_cut") for i in range(4)]
    extra = {"num_facecaption_rows": 50, "num_laion_rows": 60, "faults": FAULTS}
    finish(folder, RANK, recipe, "rank", [_shard(folder, "ledger", rows)], Facts(extra=extra))


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a stage's manifest as no stage would."""
    value = read_sealed(folder / MANIFEST_NAME)
    edit(value)
    publish_sealed(folder / MANIFEST_NAME, value)


def edit_ledger(path: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change a ledger's rows as no stage would."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def colour_ledger(folder: Path, scores: Sequence[float]) -> Path:
    """Write a ledger of which only `mean_channel_std` is known; scores from 2 on are kept."""
    rows = []
    for i, score in enumerate(scores):
        by, reason = (None, None) if score >= 2 else ("colour", "mean_channel_std_low")
        row = base_row(f"{i:032x}", str(i), rejected_by=by, reason=reason)
        rows.append({**row, "num_bytes": 0, "num_captions": 0, "colour_scores": {"mean_channel_std": float(score)}})
    path = folder / "00000.parquet"
    write_ledger(path, rows, ledger_schema(recipe_from(folder)), {})
    return path


def recount(folder: Path) -> None:
    """Make a stage's manifest agree with its edited ledgers again."""
    manifest = read_manifest(folder)
    shards = []
    for shard in manifest.shards:
        rows = pq.read_table(folder / f"{shard.shard}.parquet").to_pylist()
        rejected = count_rejections(rows)
        shards.append(dataclasses.replace(shard, num_kept=sum(row["kept"] for row in rows), rejected=rejected))
    total: dict[str, dict[str, int]] = {}
    for by, reason, count in (
        (by, reason, count) for s in shards for by, reasons in s.rejected.items() for reason, count in reasons.items()
    ):
        total.setdefault(by, {})[reason] = total.get(by, {}).get(reason, 0) + count

    def edit(value: dict[str, Any]) -> None:
        value |= {"rejected": total, "num_kept": sum(shard.num_kept for shard in shards)}
        for one, shard in zip(value["shards"], shards, strict=True):
            one |= {"rejected": shard.rejected, "num_kept": shard.num_kept}

    edit_manifest(folder, edit)


def _shard(folder: Path, name: str, rows: list[dict[str, Any]]) -> ShardReport:
    path = folder / f"{name}.parquet"
    files = {path.name: publish(path, lambda temp: write_ledger(temp, rows, pa.schema(BASE_FIELDS), {}))}
    if (tar := path.with_suffix(".tar")).is_file():
        files[tar.name] = record_of(tar)
    return ShardReport(name, name, len(rows), sum(r["kept"] for r in rows), count_rejections(rows), files)
