import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide, foresee
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, read_manifest, read_report
from curation.dataset.tar import read_samples
from curation.errors import ShardError, UsageError, WeightsError
from curation.recipe.recipe import Recipe
from curation.run.runner import Outcome, Spread
from curation.storage.publish import record_of
from filters.weights import find_weights
from tests.curation.killing import killing
from tests.curation.poisoned import poisoned_shard, use_third_party
from tests.curation.shards import encode, recipe_from, sample_members, write_shard
from tests.third_party.poison import RAISE

ALONE = Spread(num_workers=0)
RECIPE = """
schema_version = 1
name = "decide"
[curate]
shadow_fraction = 0.3
[[filters]]
name = "colour"
keep.mean_channel_std = { min = %s }
[[filters]]
name = "drawn"
measure = { heads = "drawn_heads" }
keep.nonhuman_probability = { max = %s }
"""
STRICT, LOOSE = 20.0, 8.0
"""Limits of the colour statistic; the pictures spread over both sides of each."""


def faded(seed: int, share: float) -> bytes:
    """Return an encoded picture of random hues of which only a share of the colour is left."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(float)
    grey = pixels.mean(axis=2, keepdims=True)
    return encode((grey + share * (pixels - grey)).round().astype(np.uint8), "PNG", 48)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of 30 pictures from grey to colourful; shard 00003 holds nothing but colourful ones."""
    try:
        find_weights("efficientnet_lite0")
    except WeightsError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("decide") / "in"
    for shard in range(4):
        seeds = range(100 * shard, 100 * shard + 30)
        shares = [0.9 if shard == 3 else (seed % 30) / 30 for seed in seeds]
        samples = [sample_members(f"{s:05d}", faded(s, share), "png") for s, share in zip(seeds, shares, strict=True)]
        torn = sample_members(f"{shard}torn", faded(shard, 1.0)[:-60], "png")
        write_shard(folder, f"{shard:05d}", [*samples, torn])
    return folder


@pytest.fixture(scope="module")
def drawn_limit(source: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The median of what the classifier says of the pictures, so that it splits them."""
    folder = tmp_path_factory.mktemp("limit")
    text = (RECIPE % (0.0, 1.0)).replace("[curate]", '[curate]\nmeasure = "all"')
    curate(source, folder / "out", recipe_from(folder, text), ALONE)
    scores = [row["drawn_scores"]["nonhuman_probability"] for row in rows_of(folder / "out") if row["drawn_scores"]]
    return float(np.median(scores))


def recipe(folder: Path, colour: float, drawn: float, **changes: str) -> Recipe:
    text = RECIPE % (colour, drawn)
    for old, new in changes.items():
        text = text.replace(old, new)
    return recipe_from(folder / hashlib.sha256(text.encode()).hexdigest()[:8], text)


CURATED: dict[tuple[Path, str], Path] = {}


def curated(source: Path, folder: Path, one: Recipe) -> Path:
    """Give a run with the folder `curate`, whose source is not beside it; curated once, then copied."""
    name = (source, one.digest)
    if name not in CURATED:
        CURATED[name] = source.parent / one.digest[:16]
        curate(source, CURATED[name], one, ALONE)
    shutil.copytree(CURATED[name], folder / "curate")
    return folder


def rows_of(target: Path) -> list[dict[str, Any]]:
    manifest = read_manifest(target)
    return [row for shard in manifest.shards for row in read_ledger(shard.file(target, ".parquet")).to_pylist()]


def verdicts(target: Path) -> dict[str, tuple[bool, str | None]]:
    return {row["uid"]: (row["kept"], row["rejected_by"]) for row in rows_of(target)}


def kept_bytes(target: Path) -> dict[str, bytes]:
    """Return the bytes of every shard's tar, by shard."""
    return {shard.shard: shard.file(target, ".tar").read_bytes() for shard in read_manifest(target).shards}


def calls_made(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Counter[str]:
    """Count evidence that is new or other than before, by filter: what models must have been called for."""
    made: Counter[str] = Counter()
    for old, new in zip(before, after, strict=True):
        for name in ("colour", "drawn"):
            evidence = new[f"{name}_evidence"]
            made[name] += evidence is not None and old[f"{name}_evidence"] is None
    return +made


def calls_recorded(target: Path) -> Counter[str]:
    paths = [target / f"{report.shard}_stats.json" for report in read_manifest(target).shards]
    return sum((Counter(read_report(path).run["calls"]) for path in paths), Counter())


def digest_of(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in files)).hexdigest()


def is_whole(target: Path, manifest: Manifest) -> bool:
    return all(record_of(target / n) == record for shard in manifest.shards for n, record in shard.files.items())


@pytest.mark.slow
def test_tightening_calls_no_model_and_rewrites_only_the_shards_whose_verdicts_change(
    source: Path, drawn_limit: float, tmp_path: Path
) -> None:
    strict = recipe(tmp_path, STRICT, drawn_limit)
    run = curated(source, tmp_path / "run", recipe(tmp_path, LOOSE, drawn_limit))
    fresh = curated(source, tmp_path / "fresh", strict)
    before, names = rows_of(run / "curate"), read_manifest(run / "curate").file_names
    foreseen = foresee(run, strict)
    assert (foreseen.calls, foreseen.num_undecided) == ({}, 0)
    manifest = decide(run, strict, ALONE)
    assert calls_made(before, rows_of(run / "curate")) == calls_recorded(run / "curate") == Counter()
    assert manifest.file_names - names == {
        name for shard in ("00000", "00001", "00002") for name in manifest.file_names if name.startswith(f"{shard}.")
    }
    assert foreseen.num_shards == 3 and foreseen.num_kept == manifest.num_kept == foreseen.kept_expected
    assert kept_bytes(run / "curate") == kept_bytes(fresh / "curate")
    assert verdicts(run / "curate") == verdicts(fresh / "curate")
    assert len(foreseen.changes) == sum(
        a["kept"] != b["kept"] for a, b in zip(before, rows_of(run / "curate"), strict=True)
    )
    left = {path.name for path in (run / "curate").iterdir()}
    assert is_whole(run / "curate", manifest) and not names & left - manifest.file_names


@pytest.mark.slow
def test_loosening_measures_what_was_cut_short_as_often_as_foreseen(
    source: Path, drawn_limit: float, tmp_path: Path
) -> None:
    loose = recipe(tmp_path, LOOSE, drawn_limit)
    run = curated(source, tmp_path / "run", recipe(tmp_path, STRICT, drawn_limit))
    fresh = curated(source, tmp_path / "fresh", loose)
    before = rows_of(run / "curate")
    foreseen = foresee(run, loose)
    manifest = decide(run, loose, ALONE, source)
    made = calls_made(before, rows_of(run / "curate"))
    assert made == Counter(foreseen.calls) == calls_recorded(run / "curate")
    assert set(made) == {"drawn"} and 0 < made["drawn"] == foreseen.num_undecided < 90
    assert kept_bytes(run / "curate") == kept_bytes(fresh / "curate")
    assert verdicts(run / "curate") == verdicts(fresh / "curate")
    low, high = foreseen.kept_interval
    assert foreseen.shadow_trials > 3 and low <= manifest.num_kept <= high


@pytest.mark.slow
def test_deciding_there_and_back_ends_where_it_began(source: Path, drawn_limit: float, tmp_path: Path) -> None:
    strict, loose = (recipe(tmp_path, limit, drawn_limit) for limit in (STRICT, LOOSE))
    run = curated(source, tmp_path / "run", strict)
    tars, decided = kept_bytes(run / "curate"), verdicts(run / "curate")
    decide(run, loose, ALONE, source)
    decide(run, strict, ALONE, source)
    assert (kept_bytes(run / "curate"), verdicts(run / "curate")) == (tars, decided)
    again = rows_of(run / "curate")
    decide(run, loose, ALONE, source)  # pictures come back, but everything was measured the first time
    assert calls_made(again, rows_of(run / "curate")) == Counter()


@pytest.mark.slow
def test_another_measuring_parameter_measures_only_its_own_column(
    source: Path, drawn_limit: float, tmp_path: Path
) -> None:
    first = recipe(tmp_path, LOOSE, drawn_limit)
    other = recipe(
        tmp_path, LOOSE, drawn_limit, **{'name = "colour"\n': 'name = "colour"\nmeasure = { chroma_floor = 40 }\n'}
    )
    run = curated(source, tmp_path / "run", first)
    before = rows_of(run / "curate")
    foreseen = foresee(run, other)
    decide(run, other, ALONE, source)
    after = rows_of(run / "curate")
    assert set(foreseen.calls) == {"colour"} and calls_recorded(run / "curate") == Counter(foreseen.calls)
    assert [row["drawn_evidence"] for row in after] == [row["drawn_evidence"] for row in before]
    changed = [a["colour_evidence"] != b["colour_evidence"] for a, b in zip(after, before, strict=True)]
    assert sum(changed) > 60
    fresh = curated(source, tmp_path / "fresh", other)
    assert kept_bytes(run / "curate") == kept_bytes(fresh / "curate")


@pytest.mark.slow
def test_a_dry_run_writes_nothing(source: Path, drawn_limit: float, tmp_path: Path) -> None:
    run = curated(source, tmp_path / "run", recipe(tmp_path, STRICT, drawn_limit))
    before = digest_of(run)
    foresee(run, recipe(tmp_path, LOOSE, drawn_limit))
    assert digest_of(run) == before


@pytest.mark.slow
def test_the_command_prints_the_funnel_and_decides(source: Path, drawn_limit: float, tmp_path: Path) -> None:
    run = curated(source, tmp_path / "run", recipe(tmp_path, LOOSE, drawn_limit))
    strict = recipe(tmp_path, STRICT, drawn_limit)
    program = [str(Path(sys.executable).with_name("facecaptionhq")), "decide", str(run), "--recipe", strict.path]
    dry = subprocess.run([*program, "--dry-run"], capture_output=True, text=True, check=True).stdout
    assert "certain to change sides" in dry and "kept -> colour.mean_channel_std_low" in dry
    foreseen = json.loads(subprocess.run([*program, "--dry-run", "--json"], capture_output=True, check=True).stdout)
    done = subprocess.run([*program, "--workers", "0", "--json"], capture_output=True, check=True).stdout
    assert json.loads(done)["num_kept"] == foreseen["num_kept"] == foreseen["kept_low"]


@pytest.mark.slow
def test_a_pack_follows_the_folder_that_was_decided_again(source: Path, drawn_limit: float, tmp_path: Path) -> None:
    strict = recipe(tmp_path, STRICT, drawn_limit)
    run = curated(source, tmp_path / "run", recipe(tmp_path, LOOSE, drawn_limit))
    num_kept = decide(run, strict, ALONE).num_kept
    packed = pack(run / "curate", run / "pack", strict, ALONE)
    uids = {s.key for shard in packed.shards for s in read_samples(shard.file(run / "pack", ".tar"))}
    assert len(uids) == packed.num_kept == num_kept


def test_without_the_source_loosening_is_refused_and_nothing_changes(
    source: Path, drawn_limit: float, tmp_path: Path
) -> None:
    moved = shutil.copytree(source, tmp_path / "in")
    run = curated(moved, tmp_path / "run", recipe(tmp_path, STRICT, drawn_limit))
    moved.rename(tmp_path / "elsewhere")
    before = read_manifest(run / "curate")
    with pytest.raises(ShardError, match=r"3 of 4 shards could not be decided again.*--source"):
        decide(run, recipe(tmp_path, LOOSE, drawn_limit), ALONE)
    assert read_manifest(run / "curate") == before and is_whole(run / "curate", before)


def test_a_run_that_is_half_forgotten_is_not_decided_again(source: Path, drawn_limit: float, tmp_path: Path) -> None:
    run = curated(source, tmp_path / "run", recipe(tmp_path, LOOSE, drawn_limit))
    (run / "forgotten").mkdir()
    (run / "forgotten" / "journal.json").write_text("{}")
    strict = recipe(tmp_path, STRICT, drawn_limit)
    for attempt in (partial(decide, run, strict, ALONE), partial(foresee, run, strict)):
        with pytest.raises(UsageError, match="`forget` was interrupted here"):
            attempt()


@pytest.mark.slow
def test_the_shadow_still_stands_for_the_undecided_after_deciding_before(
    source: Path, drawn_limit: float, tmp_path: Path
) -> None:
    start, strict, loose = (recipe(tmp_path, limit, drawn_limit) for limit in (14.0, STRICT, LOOSE))
    once = foresee(curated(source, tmp_path / "once", start), loose)
    run = curated(source, tmp_path / "run", start)
    decide(run, strict, ALONE)
    twice = foresee(run, loose)
    assert (twice.num_undecided, twice.calls) == (once.num_undecided, once.calls)
    assert (twice.shadow_hits, twice.shadow_trials) == (once.shadow_hits, once.shadow_trials)


def test_other_decode_limits_are_another_curation(source: Path, drawn_limit: float, tmp_path: Path) -> None:
    run = curated(source, tmp_path / "run", recipe(tmp_path, STRICT, drawn_limit))
    other = recipe(tmp_path, STRICT, drawn_limit, **{"[curate]": "[decode]\nmin_side_px = 32\n[curate]"})
    with pytest.raises(UsageError, match="decodes otherwise"):
        decide(run, other, ALONE, source)


def content_of(folder: Path) -> dict[str, bytes]:
    """Return every file but the done records, which tell how long things took."""
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.endswith("_stats.json"))
    return {path.name: path.read_bytes() for path in files}


def test_deciding_back_after_an_interruption_leaves_nothing_of_the_other_work(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for shard in range(2):
        pictures = [sample_members(f"{s:05d}", faded(s, s / 10), "png") for s in range(9 * shard + 1, 9 * shard + 9)]
        write_shard(source, f"{shard:05d}", pictures)
    text = RECIPE.partition('[[filters]]\nname = "drawn"')[0]
    first, second = (recipe_from(tmp_path / name, text % limit) for name, limit in (("a", STRICT), ("b", LOOSE)))
    run = curated(source, tmp_path / "run", first)
    before = content_of(run / "curate"), [read_report(run / "curate" / f"0000{i}_stats.json") for i in range(2)]

    def stop(_: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decide(run, second, ALONE, source, stop)
    assert read_report(run / "curate" / "00000_stats.json") != before[1][0]
    decide(run, first, ALONE, source)
    reports = [read_report(run / "curate" / f"0000{i}_stats.json") for i in range(2)]
    assert (content_of(run / "curate"), reports) == before and verify(run, ALONE).faults == ()


@pytest.mark.slow
def test_killed_while_deciding_the_old_state_stands_until_the_new_one_does(tmp_path: Path) -> None:
    source = tmp_path / "in"
    write_shard(source, "00000", [sample_members(f"{s:05d}", faded(s, s / 10), "png") for s in range(1, 9)])
    text = """
schema_version = 1
name = "killed"
[curate]
isolate = false
[[filters]]
name = "colour"
keep.mean_channel_std = { min = %s }
"""
    first, second = (recipe_from(tmp_path / name, text % limit) for name, limit in (("a", STRICT), ("b", LOOSE)))
    fresh = curated(source, tmp_path / "fresh", second)
    old, new = read_manifest(curated(source, tmp_path / "old", first) / "curate"), read_manifest(fresh / "curate")
    run = curated(source, tmp_path / "whole", first)
    with killing() as killer:
        num_steps = killer.count_steps(partial(decide, run, second, ALONE, source))
        assert num_steps > 20
        decide(run, second, ALONE, source)
        undisturbed = content_of(run / "curate")
        for step in range(num_steps):
            run = curated(source, tmp_path / f"killed{step}", first)
            killer.kill_at(step, partial(decide, run, second, ALONE, source))
            found = read_manifest(run / "curate")
            assert found.num_kept in (old.num_kept, new.num_kept) and is_whole(run / "curate", found)
            decide(run, second, ALONE, source)
            assert kept_bytes(run / "curate") == kept_bytes(fresh / "curate")
            assert verdicts(run / "curate") == verdicts(fresh / "curate")
            assert content_of(run / "curate") == undisturbed


def test_a_picture_that_is_quarantined_while_deciding_leaves_a_row_that_verify_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_third_party(monkeypatch)
    try:
        find_weights("lbpcascade_animeface")
    except WeightsError as error:
        pytest.skip(str(error))
    source = poisoned_shard(tmp_path / "fetch", "00000", [0, RAISE, 0]).parent
    text = """
schema_version = 1
name = "poisoned"
[curate]
shadow_fraction = 0.0
[[filters]]
name = "anime"
keep.num_uncontested_hits = { max = 0 }
[[filters]]
name = "faces"
"""
    new = f'[[filters]]\nname = "poison"\nmeasure.marks = "{tmp_path}/marks"\nkeep.brightness = {{ min = 0 }}\n'
    curate(source, tmp_path / "curate", recipe_from(tmp_path / "a", text), ALONE)
    assert all(row["joint_scores"] == {"num_uncontested_hits": 0.0} for row in rows_of(tmp_path / "curate"))
    decide(tmp_path, recipe_from(tmp_path / "b", text + new), ALONE)
    rows = rows_of(tmp_path / "curate")
    assert [row["reason"] for row in rows] == [None, "measure_failed", None]
    assert rows[1]["joint_scores"] is rows[1]["anime_evidence"] is None
    assert verify(tmp_path / "curate", ALONE).ok
