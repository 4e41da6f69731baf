"""Near duplicates: nobody within the radius is missed, the best stays, and whoever is out knows for whom."""

from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curation.commands.curate.stage import curate
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.gc.collect import collect
from curation.commands.pack.near_duplicates import NUM_BITS, keys, near_duplicates_in
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.sample import uid_of_url
from curation.dataset.tombstones import Tombstones, write_tombstones
from curation.errors import RecipeError
from curation.recipe.recipe import Recipe
from curation.run.runner import Outcome, Spread
from tests.curation.shards import bytes_of, encode, recipe_from, sample_members, write_shard
from tests.filters.marks import astronaut

ALONE = Spread(num_workers=0)
RECIPE = """
schema_version = 1
name = "looks"
[[filters]]
name = "look"
keep.num_set_bits = { min = 0 }
[pack]
near_duplicate_bits = 6
num_shard_samples = 2
"""
PLAIN = int("01" * 32, 2)
FLIPS = st.sets(st.integers(0, 63), max_size=9).map(lambda bits: sum(1 << bit for bit in bits))
PICTURES = st.lists(
    st.tuples(FLIPS, st.integers(0, 6).map(lambda i: i * 40), st.sampled_from((100.0, 200.0)), st.integers(1, 2)),
    max_size=24,
)
Picture = tuple[int, int, float, int]


def found(pictures: list[Picture], bits: int, fine_bits: int = 48) -> dict[int, int]:
    """Who is out for whom, by number."""
    with duckdb.connect() as database:
        database.execute(
            "CREATE TABLE pictures (uid VARCHAR, num_captions INTEGER, face_side DOUBLE, "
            "shard INTEGER, number INTEGER, phash VARCHAR, fine_phash VARCHAR)"
        )
        for i, (flips, num_fine, side, captions) in enumerate(pictures):
            row = (f"{i:032x}", captions, side, 0, i, f"{PLAIN ^ flips:016x}", f"{(1 << num_fine) - 1:064x}")
            database.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        near_duplicates_in(database, bits, fine_bits)
        return dict(database.execute("SELECT number, of_number FROM near").fetchall())


def expected(pictures: list[Picture], bits: int, fine_bits: int = 48) -> dict[int, int]:
    """The same by holding each against each."""
    order = sorted(range(len(pictures)), key=lambda i: (-pictures[i][2], -pictures[i][3], i))
    kept: list[int] = []
    out: dict[int, int] = {}
    for one in order:
        flips, num_fine, *_ = pictures[one]
        near = (
            other
            for other in kept
            if (flips ^ pictures[other][0]).bit_count() <= bits and abs(num_fine - pictures[other][1]) <= fine_bits
        )
        best = next(near, None)
        if best is None:
            kept.append(one)
        else:
            out[one] = best
    return out


@settings(max_examples=12, deadline=None)
@given(PICTURES, st.integers(0, 6))
def test_who_is_out_for_whom_is_what_holding_each_against_each_gives(pictures: list[Picture], bits: int) -> None:
    assert found(pictures, bits) == expected(pictures, bits)


@settings(deadline=None)
@given(st.integers(0, 8), st.sampled_from((10, 10**6, 50 * 10**6)), st.data())
def test_whatever_bits_differ_some_key_leaves_them_out(bits: int, num_pictures: int, data: st.DataObject) -> None:
    flips = data.draw(st.sets(st.integers(0, NUM_BITS - 1), min_size=bits, max_size=bits))
    differing = sum(1 << bit for bit in flips)
    assert any(key & differing == 0 for key in keys(bits, num_pictures))


def test_flat_pictures_are_near_nothing() -> None:
    assert found([(PLAIN, 0, 1.0, 1)] * 3, 6) == {}


@pytest.fixture(scope="module")
def portraits() -> list[np.ndarray]:
    """A real portrait, the same smaller and coarser, mirrored, and another picture."""
    whole = Image.fromarray(astronaut())
    another = np.asarray(
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (8, 8, 3), np.uint8)).resize((256, 256))
    )
    return [np.asarray(whole), np.asarray(whole.resize((300, 300))), np.asarray(whole)[:, ::-1], another]


def curated(source: Path, target: Path, recipe: Recipe, portraits: list[np.ndarray]) -> tuple[str, str]:
    """Curate the portraits, the copy first that stays out for the other; return the uids of both, the better first."""
    urls = [f"http://example.org/{i}.jpg" for i in range(len(portraits))]
    uids = [uid_of_url(url) for url in urls]
    order = [*sorted(range(2), key=lambda i: uids[i], reverse=True), 2, 3]
    samples = [sample_members(f"{i}", encode(portraits[i], "JPEG", portraits[i].shape[0]), url=urls[i]) for i in order]
    write_shard(source, "00000", samples)
    curate(source, target, recipe, ALONE)
    return min(uids[:2]), max(uids[:2])


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["the_better", "the_lesser"])
def test_a_pack_that_was_stopped_keeps_its_cut_whoever_of_two_copies_is_forgotten(
    tmp_path: Path, portraits: list[np.ndarray], which: int
) -> None:
    run, recipe = tmp_path / "run", recipe_from(tmp_path, RECIPE)
    copies = curated(tmp_path / "in", run / "curate", recipe, portraits)

    def stop(_: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(run / "curate", run / "pack", recipe, ALONE, stop)
    cut = read_ledger(run / "pack" / "00000.parquet")["uid"].to_pylist()
    assert copies[0] in cut and len(cut) == 2 and not (run / "pack" / "00001.parquet").exists()
    forget(run, read_requests([copies[which]], "list"))
    assert collect(run).removed == () and verify(run, ALONE).faults == ()
    before = (run / "pack" / "00000.tar").read_bytes()
    manifest = pack(run / "curate", run / "pack", recipe, ALONE)
    rows = read_ledger(run / "pack" / "00000.parquet").to_pylist()
    assert [row["uid"] for row in rows] == cut and (run / "pack" / "00000.tar").read_bytes() == before
    assert [row["uid"] for row in rows if not row["kept"]] == [uid for uid in cut if uid == copies[which]]
    assert [report.num_seen for report in manifest.shards] == [2, 1] and verify(run, ALONE).faults == ()


def test_nobody_stays_out_for_a_better_one_that_the_targets_run_has_forgotten(
    tmp_path: Path, portraits: list[np.ndarray]
) -> None:
    recipe = recipe_from(tmp_path, RECIPE)
    better, lesser = curated(tmp_path / "in", tmp_path / "foreign" / "curate", recipe, portraits)
    write_tombstones(tmp_path / "run", Tombstones(uid=frozenset({better})))
    manifest = pack(tmp_path / "foreign" / "curate", tmp_path / "run" / "pack", recipe, ALONE)
    rows = {row["uid"]: row for row in read_ledger(tmp_path / "run" / "pack" / "ledger.parquet").to_pylist()}
    assert rows[lesser]["kept"] and rows[lesser]["duplicate_of"] is None and not rows[better]["kept"]
    assert (manifest.num_kept, manifest.rejected) == (3, {"forget": {"forgotten": 1}})
    assert verify(tmp_path / "run", ALONE).faults == ()
    done = bytes_of(tmp_path / "run" / "pack")
    pack(tmp_path / "foreign" / "curate", tmp_path / "run" / "pack", recipe, ALONE)
    assert bytes_of(tmp_path / "run" / "pack") == done


@pytest.mark.slow
def test_the_ledger_names_for_whom_a_copy_stays_out_and_forgetting_that_one_moves_nobody(
    tmp_path: Path, portraits: list[np.ndarray]
) -> None:
    run, recipe = tmp_path / "run", recipe_from(tmp_path, RECIPE)
    names = ("whole", "small", "mirrored", "other")
    samples = [
        sample_members(name, encode(picture, "JPEG", picture.shape[0]), url=f"http://example.org/{name}.jpg")
        for name, picture in zip(names, portraits, strict=True)
    ]
    write_shard(tmp_path / "in", "00000", samples)
    curate(tmp_path / "in", run / "curate", recipe, ALONE)
    uids = {row["key"]: row["uid"] for row in read_ledger(run / "curate" / "00000.parquet").to_pylist()}
    manifest = pack(run / "curate", run / "pack", recipe, ALONE)
    assert (manifest.num_kept, manifest.rejected) == (3, {"pack": {"near_duplicate": 1}})
    (out,) = [row for row in read_ledger(run / "pack" / "ledger.parquet").to_pylist() if not row["kept"]]
    best = min(uids["whole"], uids["small"])
    assert {out["uid"], out["duplicate_of"]} == {uids["whole"], uids["small"]} and out["duplicate_of"] == best
    assert verify(run, ALONE).faults == ()
    forget(run, read_requests([best], "list"))
    after = bytes_of(run / "pack")
    assert verify(run, ALONE).faults == ()
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert bytes_of(run / "pack") == after
    again = pack(run / "curate", tmp_path / "elsewhere", recipe, ALONE)
    assert again.rejected.get("pack") is None and again.num_kept == 3


def test_a_recipe_that_asks_for_it_without_a_look_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"near_duplicate_bits: needs a filter 'look'"):
        recipe_from(tmp_path, RECIPE.replace("keep.num_set_bits = { min = 0 }", ""))
