"""Copies of one picture are forgotten together, and every pack of the run keeps the seats that it gave."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from curation.commands.caption.stage import caption
from curation.commands.curate.stage import curate
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.sample import uid_of_url
from curation.dataset.tombstones import tombstones_of
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from tests.curation.commands.caption.model_server import address_of, good, model_server
from tests.curation.shards import bytes_of, colourful, recipe_from, write_shard

ALONE = Spread(num_workers=0)
CURATED = """
schema_version = 1
name = "copies"
[curate]
isolate = false
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[[filters]]
name = "look"
keep.num_set_bits = { min = 0 }
[pack]
num_shard_samples = 2
near_duplicate_bits = %d
[captions]
min_words = %d
"""
NO_CAPTION, SHORT, LONG = "", "a woman", "A woman with red hair smiles at us"
ASKED = '[caption]\nmodel = "tiny"\nrevision = "r1"\nprompt = "Describe."\nretry_wait_s = 0\nprefer = "%s"\n'
PACKS = {
    "pack": CURATED % (0, 1),
    "near": CURATED % (6, 1),
    "long": CURATED % (0, 4),
    "told": CURATED % (0, 1) + ASKED % "new",
    "told_long": CURATED % (6, 4) + ASKED % "better",
}
"""Folder of a pack -> its recipe; the first lies in the run, the others elsewhere."""
SAMPLES = {
    "00000": [("silent", 1, NO_CAPTION), ("same", 2, SHORT), ("other", 3, LONG), ("lone", 4, NO_CAPTION)],
    "00001": [("spoken", 1, LONG), ("same", 5, LONG), ("third", 1, SHORT), ("near", 6, LONG)],
    "00002": [("again", 2, LONG), ("last", 7, LONG), ("silent2", 3, NO_CAPTION), ("end", 8, SHORT)],
}
"""Shard -> address, seed of the picture, caption: copies by bytes and by address, with and without words."""


def url_of(name: str) -> str:
    return f"http://example.org/{name}.jpg"


def recipe_of_pack(folder: Path, name: str) -> Recipe:
    text = PACKS[name].replace("near_duplicate_bits = 0\n", "")
    return recipe_from(folder / "recipes" / name, text)


def write_packs(folder: Path, names: Iterable[str] = PACKS) -> Path:
    """Curate copies, ask for captions, and pack them by some of the recipes."""
    run = folder / "run"
    for shard, samples in SAMPLES.items():
        write_shard(
            folder / "in",
            shard,
            [
                [
                    (f"{number}.jpg", colourful(seed)),
                    (f"{number}.json", json.dumps({"url": url_of(name)}).encode()),
                    (f"{number}.txt", text.encode()),
                ]
                for number, (name, seed, text) in enumerate(samples)
            ],
        )
    curate(folder / "in", run / "curate", recipe_of_pack(folder, "pack"), ALONE)
    with model_server(lambda number, before: 7 * "word " if number == 1 else good(number, before)) as server:
        asked = recipe_of_pack(folder, "told")
        assert not caption(run / "curate", asked, ALONE, endpoint=address_of(server)).failed
    for name in names:
        pack(run / "curate", place_of(folder, name), recipe_of_pack(folder, name), ALONE)
    return run


def place_of(folder: Path, name: str) -> Path:
    return folder / "run" / "pack" if name == "pack" else folder / "elsewhere" / name


def kept_of(pack: Path) -> list[str]:
    return [row["uid"] for row in read_ledger(pack / "index.parquet").to_pylist()]


@pytest.mark.slow
@pytest.mark.parametrize("order", [["third", "same", "end"], ["end", "same", "third"]], ids="-".join)
def test_whoever_of_the_copies_is_named_all_go_and_no_pack_moves_anybody_else(tmp_path: Path, order: list[str]) -> None:
    run = write_packs(tmp_path)
    assert verify(run, ALONE).faults == ()
    for name in order:
        before = {pack: kept_of(place_of(tmp_path, pack)) for pack in PACKS}
        _, receipt = forget(run, read_requests([url_of(name)], "list"))
        assert receipt["not_reached"] == {} and verify(run, ALONE).faults == ()
        gone = tombstones_of(run).uids
        for packed, kept in before.items():
            place = place_of(tmp_path, packed)
            left = bytes_of(place)
            assert kept_of(place) == [uid for uid in kept if uid not in gone]
            pack(run / "curate", place, recipe_of_pack(tmp_path, packed), ALONE)
            assert bytes_of(place) == left
    assert {uid_of_url(url_of(name)) for name in ("silent", "spoken", "third", "same", "again", "end")} == gone


@pytest.mark.slow
def test_a_pack_that_was_out_of_reach_forgets_copies_later_and_keeps_its_seats_too(tmp_path: Path) -> None:
    run, place = write_packs(tmp_path, ["pack", "told"]), place_of(tmp_path, "told")
    before = kept_of(place)
    place.rename(tmp_path / "away")
    requests = read_requests([url_of("third"), url_of("same")], "list")
    _, receipt = forget(run, requests)
    assert list(receipt["not_reached"]) == [str(place)]
    (tmp_path / "away").rename(place)
    assert forget(run, requests)[1]["not_reached"] == {} and verify(run, ALONE).faults == ()
    left = bytes_of(place)
    assert kept_of(place) == [uid for uid in before if uid not in tombstones_of(run).uids]
    pack(run / "curate", place, recipe_of_pack(tmp_path, "told"), ALONE)
    assert bytes_of(place) == left
