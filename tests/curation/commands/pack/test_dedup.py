"""One picture is packed once: of several samples of it the one with the largest native face, whatever it is named."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation.commands.curate.stage import curate
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.plan import chosen
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger, write_ledger
from curation.dataset.manifest import Manifest, ShardReport
from curation.dataset.tar import read_samples
from curation.measure.columns import ledger_row, ledger_schema
from curation.recipe.judge import Verdict
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from curation.storage.publish import publish
from filters.detectors.base import Face
from filters.faces import FacesEvidence
from tests.curation.shards import bytes_of, colourful, recipe_from, sample_members, write_shard
from tests.filters.marks import astronaut, with_centerface
from tests.pictures import encode

ALONE = Spread(num_workers=0)
FACES = """
schema_version = 1
name = "faces"
[[filters]]
name = "faces"
measure.detector = "centerface"
measure.weights = "centerface"
keep.num_faces = { min = 1 }
"""


def ledgers(folder: Path, recipe: Recipe, shards: Sequence[Sequence[dict[str, Any]]]) -> Manifest:
    """Write curate's ledgers of samples that are told in a few words, and the manifest that names them."""
    reports = []
    for number, samples in enumerate(shards):
        rows = []
        for sample in samples:
            side = float(sample["side"])
            face = Face(0.0, 0.0, side, side, 0.9, (0.0,) * 10)
            identity = {
                "uid": sample["uid"], "key": "k", "url": None, "sha256": sample["sha256"], "width": 999, "height": 999,
                "format": "jpg", "num_bytes": 1, "num_captions": sample["captions"],
            }  # fmt: skip
            evidence = {"faces": FacesEvidence(999, 999, (face,) if side else ())} if "faces" in _names(recipe) else {}
            verdict = Verdict(None, None) if sample["kept"] else Verdict("colour", "low")
            rows.append(ledger_row(identity, verdict, evidence, recipe))
        name = f"{number:05d}"
        path = folder / f"{name}.parquet"
        record = publish(path, lambda temp, rows=rows: write_ledger(temp, rows, ledger_schema(recipe), {}))  # type: ignore[misc]
        num_kept = sum(sample["kept"] for sample in samples)
        rejected = {"colour": {"low": len(rows) - num_kept}}
        reports.append(ShardReport(name, "w", len(rows), num_kept, rejected, {path.name: record}))
    num_seen, num_kept = sum(one.num_seen for one in reports), sum(one.num_kept for one in reports)
    return Manifest("curate", "faces", recipe.digest, "w", num_seen, num_kept, {}, reports, recipe=recipe.resolved)


def duplicates_among(folder: Path, curated: Manifest) -> dict[tuple[str, int], str | None]:
    with chosen(folder, curated) as choice:
        return {
            (report.shard, number): aside.reason
            for shard, report in enumerate(curated.shards)
            for number, aside in choice.of(shard).items()
        }


def _names(recipe: Recipe) -> list[str]:
    return [plan.name for plan in recipe.filters]


def expected(shards: Sequence[Sequence[dict[str, Any]]]) -> dict[tuple[str, int], str]:
    """The same in Python: sort all, keep the first of each uid, then the first of each content."""
    places = [
        (-one["side"], -one["captions"], one["uid"], f"{shard:05d}", row, one["sha256"])
        for shard, samples in enumerate(shards)
        for row, one in enumerate(samples)
        if one["kept"] and one["captions"]
    ]
    found: dict[tuple[str, int], str] = {}
    for which, reason in ((2, "duplicate_uid"), (5, "duplicate_bytes")):
        seen: set[Any] = set()
        for place in sorted(places):
            if place[which] in seen:
                found[place[3], place[4]] = reason
            seen.add(place[which])
        places = [place for place in places if (place[3], place[4]) not in found]
    return found


def test_the_largest_face_wins_then_the_most_captions_then_the_smaller_uid(tmp_path: Path) -> None:
    chance = random.Random(7)
    shards = [
        [
            {
                "uid": f"{chance.randrange(60):032x}", "sha256": f"{chance.randrange(50):064x}",
                "side": chance.choice((0, 100, 200, 300)), "captions": chance.randrange(3),
                "kept": chance.random() < 0.9,
            }
            for _ in range(40)
        ]
        for _ in range(4)
    ]  # fmt: skip
    recipe = recipe_from(tmp_path, FACES)
    found = duplicates_among(tmp_path, ledgers(tmp_path, recipe, shards))
    assert found == expected(shards)
    assert set(found.values()) == {"duplicate_uid", "duplicate_bytes"} and len(found) > 40


def test_a_recipe_without_faces_compares_captions_alone(tmp_path: Path) -> None:
    one = {"uid": "a" * 32, "sha256": "0" * 64, "side": 0, "captions": 1, "kept": True}
    shards = [[one], [one | {"captions": 2}], [one | {"captions": 2}]]
    recipe = recipe_from(tmp_path, FACES.partition("[[filters]]")[0] + '[[filters]]\nname = "colour"\n')
    found = duplicates_among(tmp_path, ledgers(tmp_path, recipe, shards))
    assert found == {("00000", 0): "duplicate_uid", ("00002", 0): "duplicate_uid"}


@with_centerface
def test_of_two_pictures_of_one_address_the_one_with_the_larger_face_is_packed(tmp_path: Path) -> None:
    url = "http://example.org/astronaut.png"
    small = np.asarray(Image.fromarray(astronaut()).resize((256, 256)))
    several = sample_members("a", encode(small, "png"), "png", url)
    write_shard(tmp_path / "in", "00000", [several])
    write_shard(tmp_path / "in", "00001", [sample_members("b", encode(astronaut(), "png"), "png", url)])
    recipe = recipe_from(tmp_path, FACES)
    curate(tmp_path / "in", tmp_path / "curate", recipe, ALONE)
    manifest = pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE)
    assert manifest.rejected == {"pack": {"duplicate_uid": 1}}
    (packed,) = read_samples(tmp_path / "pack" / "00000.tar")
    assert (packed.metadata["width"], packed.caption) == (512, "caption of b")
    (left_out,) = (row for row in read_ledger(tmp_path / "pack" / "ledger.parquet").to_pylist() if not row["kept"])
    assert (left_out["source_shard"], left_out["width"]) == ("00000", 256)


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", ["a", "c", "d"])
def test_forgetting_copies_moves_nobody_else(tmp_path: Path, forgotten: str) -> None:
    def sample(key: str, seed: int, name: str = "") -> list[tuple[str, bytes]]:
        return sample_members(key, colourful(seed), url=f"http://example.org/{name or key}.jpg")

    run, recipe = tmp_path / "run", recipe_from(tmp_path)
    write_shard(tmp_path / "in", "00000", [sample("a", 1), sample("b", 2), sample("d", 3)])
    copies = [sample("c", 1), sample("d2", 4, "d"), sample("e", 5), sample("f", 6), sample("g", 7)]
    write_shard(tmp_path / "in", "00001", copies)
    curate(tmp_path / "in", run / "curate", recipe, ALONE)
    pack(run / "curate", run / "pack", recipe, ALONE)
    forget(run, read_requests([f"http://example.org/{forgotten}.jpg"], "list"))
    after = bytes_of(run / "pack")
    assert verify(run, ALONE).faults == ()
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert bytes_of(run / "pack") == after
