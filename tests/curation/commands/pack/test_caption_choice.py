"""Captions that are not fit to train on: who has no other stays out by name, who has another is packed with that."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.caption_choice import by_quality, fault_of
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.caption_facts import facts_of
from curation.dataset.captions import Caption
from curation.dataset.ledger import read_ledger
from curation.dataset.tar import read_samples
from curation.errors import UsageError
from curation.recipe.settings import CaptionSettings
from curation.run.runner import Spread
from tests.curation.shards import RECIPE, bytes_of, colourful, encode, recipe_from, write_shard

ALONE = Spread(num_workers=0)
WITH_CAPTIONS = RECIPE + "[captions]\nmax_repeats = 2\n"
WITH_LOOK = """
schema_version = 1
name = "looks"
[[filters]]
name = "look"
keep.num_set_bits = { min = 0 }
"""
TEXTS = {
    "good": "A woman with red hair is smiling.",
    "mail": "Portrait of Jane, write to jane@example.org",
    "foreign": "Портрет мужчины в чёрной шляпе",
    "short": "woman",
    "often0": "Photo of the day by us",
    "often1": "photo of the day, by us!",
    "often2": "Photo of the Day by us",
    "none": "",
}
REASONS = {
    "mail": "caption_personal_data", "foreign": "caption_language", "short": "caption_short", "none": "no_caption",
    "often0": "caption_repeated", "often1": "caption_repeated", "often2": "caption_repeated",
}  # fmt: skip


def sample(key: str, text: str, seed: int, facecaptions: list[dict[str, Any]] | None = None) -> list[tuple[str, bytes]]:
    metadata = {"url": f"http://example.org/{key}.jpg", **({"facecaptions": facecaptions} if facecaptions else {})}
    members = [(f"{key}.jpg", colourful(seed)), (f"{key}.json", json.dumps(metadata).encode())]
    return [*members, (f"{key}.txt", text.encode())]


@pytest.mark.slow
def test_whoever_has_no_fit_caption_stays_out_by_name_and_forgetting_moves_nobody(tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", recipe_from(tmp_path, WITH_CAPTIONS)
    described = [{"id": "1", "caption": "stock photo of a man", "box": [1, 1, 30, 30]}]
    samples = [sample(key, text, seed) for seed, (key, text) in enumerate(TEXTS.items())]
    samples.append(sample("other", "A man in a hat is laughing.", 90, described))
    write_shard(tmp_path / "in", "00000", samples)
    curate(tmp_path / "in", run / "curate", recipe, ALONE)
    keys = {row["uid"]: row["key"] for row in read_ledger(run / "curate" / "00000.parquet").to_pylist()}
    pack(run / "curate", run / "pack", recipe, ALONE)
    rows = read_ledger(run / "pack" / "ledger.parquet").to_pylist()
    assert {keys[row["uid"]]: row["reason"] for row in rows if not row["kept"]} == REASONS
    packed = {keys[one.key]: one.metadata for one in read_samples(run / "pack" / "00000.tar")}
    assert packed.keys() == {"good", "other"}
    assert (packed["other"]["caption"], packed["other"]["caption_source"]) == ("A man in a hat is laughing.", "laion")
    assert verify(run, ALONE).faults == ()
    forget(run, read_requests(["http://example.org/often1.jpg", "http://example.org/mail.jpg"], "list"))
    after = bytes_of(run / "pack")
    assert verify(run, ALONE).faults == ()
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert bytes_of(run / "pack") == after
    again = pack(run / "curate", tmp_path / "elsewhere", recipe, ALONE)
    assert again.num_kept == 4, "two pictures may share a text"


def test_what_nobody_has_looked_at_is_not_decided(tmp_path: Path) -> None:
    write_shard(tmp_path / "in", "00000", [sample("a", TEXTS["good"], 1)])
    curate(tmp_path / "in", tmp_path / "curate", recipe_from(tmp_path / "plain"), ALONE)
    with pytest.raises(UsageError, match=r"asks what captions are like \(\[captions\]\)"):
        decide(tmp_path / "curate", recipe_from(tmp_path / "asking", WITH_CAPTIONS), ALONE, tmp_path / "in")


@pytest.mark.parametrize(
    ("text", "settings", "fault"),
    [
        ("two words", {}, "caption_short"),
        ("two words", {"min_words": 2}, None),
        ("one two three four", {"max_words": 3}, "caption_long"),
        ("Die Frau mit dem roten Hut", {}, "caption_language"),
        ("Die Frau mit dem roten Hut", {"languages": ["de"]}, None),
        ("Die Frau mit dem roten Hut", {"languages": []}, None),
        ("a man, royalty free", {}, "caption_boilerplate"),
        ("a man, royalty free", {"refuse_boilerplate": False}, None),
        ("call me at +44 20 7946 0000", {}, "caption_personal_data"),
        ("call me at +44 20 7946 0000", {"refuse_personal_data": False}, None),
    ],
)
def test_each_check_has_a_reason_and_a_way_to_do_without_it(text: str, settings: Any, fault: str | None) -> None:
    assert fault_of(facts_of(text, "text"), CaptionSettings.model_validate(settings)) == fault


def test_of_several_fit_captions_the_preferred_source_comes_first_then_what_says_more() -> None:
    texts = [
        ("a man smiles today", "laion"),
        ("a man who smiles in the park", "laion"),
        ("he has a beard", "facecaption"),
    ]
    captions = [Caption(text, source) for text, source in [*texts, ("stock photo of a man", "facecaption")]]
    best = by_quality(captions, CaptionSettings(), 2000)
    assert [caption.text for caption in best] == [texts[2][0], texts[1][0], texts[0][0]]
    other = CaptionSettings(prefer=("laion", "facecaption", "text"), enough_words=3)
    assert [caption.text for caption in by_quality(captions, other, 2000)] == [text for text, _ in texts]
    assert by_quality(captions[3:], CaptionSettings(), 2000) == tuple(captions[3:])


def brighter(seed: int, by: int) -> bytes:
    """Return an encoded picture of random hues; one seed gives near copies."""
    return encode(np.random.default_rng(seed).integers(40, 200, (8, 8, 3), dtype=np.uint8) + np.uint8(by), "PNG", 64)


def described(text: str) -> list[dict[str, Any]]:
    return [{"id": "1", "caption": text, "box": [1, 1, 30, 30]}]


def packed_from(folder: Path, recipe_text: str, samples: list[list[tuple[str, bytes]]]) -> dict[str, Any]:
    """Return key -> reason, or the packed caption, of everyone; what was packed is found to be whole, twice."""
    recipe = recipe_from(folder, recipe_text)
    write_shard(folder / "in", "00000", samples)
    curate(folder / "in", folder / "run" / "curate", recipe, ALONE)
    pack(folder / "run" / "curate", folder / "run" / "pack", recipe, ALONE)
    before = bytes_of(folder / "run" / "pack")
    assert verify(folder / "run", ALONE).faults == ()
    pack(folder / "run" / "curate", folder / "run" / "pack", recipe, ALONE)
    assert bytes_of(folder / "run" / "pack") == before
    keys = {row["uid"]: row["key"] for row in read_ledger(folder / "run" / "curate" / "00000.parquet").to_pylist()}
    rows = read_ledger(folder / "run" / "pack" / "ledger.parquet").to_pylist()
    tars = sorted((folder / "run" / "pack").glob("*.tar"))
    captions = {one.key: one.metadata["caption"] for tar in tars for one in read_samples(tar)}
    return {keys[row["uid"]]: captions[row["uid"]] if row["kept"] else row["reason"] for row in rows}


def test_whoever_has_no_fit_caption_stands_for_nobody(tmp_path: Path) -> None:
    texts = {"bad": "IMG_1234.jpg", "good": TEXTS["good"]}
    pairs = [sample(f"{name}{i}", text, i) for i in range(4) for name, text in texts.items()]
    told = packed_from(tmp_path, RECIPE + "[captions]\n", pairs)
    assert told == {f"bad{i}": "caption_boilerplate" for i in range(4)} | {f"good{i}": TEXTS["good"] for i in range(4)}


def test_what_copies_share_is_no_repeat_and_a_copy_with_its_own_text_is_packed_for_one_without(tmp_path: Path) -> None:
    """a1 to a3 show one picture, b1 and b2 another; the text of b1 is that of three others besides."""
    texts = {"a1": "The girl with the kite", "a2": "The girl with the kite", "a3": "The girl with the kite"}
    often = {"b1": "photo of the day", "b3": "photo of the day", "b4": "photo of the day", "b5": "photo of the day"}
    own = {"b2": "He is in the boat"}
    looks = {"a1": 1, "a2": 1, "a3": 1, "b1": 2, "b2": 2, "b3": 3, "b4": 4, "b5": 5}
    samples = [
        [(f"{key}.jpg", brighter(looks[key], place)), *sample(key, text, 0)[1:]]
        for place, (key, text) in enumerate((texts | often | own).items())
    ]
    near = WITH_LOOK + "[captions]\nmax_repeats = 2\n[pack]\nnear_duplicate_bits = 6\n"
    told = packed_from(tmp_path, near, samples)
    assert sorted(told[key] for key in texts) == ["The girl with the kite", "near_duplicate", "near_duplicate"]
    assert {key: told[key] for key in often} == dict.fromkeys(often, "caption_repeated")
    assert told["b2"] == own["b2"]


def test_a_repeated_text_is_packed_for_nobody_who_has_another(tmp_path: Path) -> None:
    samples = [sample(f"p{i}", "photo of the day", i, described(f"A man number {i}.")) for i in range(4)]
    captions = '[captions]\nmax_repeats = 1\nprefer = ["laion", "text", "facecaption"]\n'
    told = packed_from(tmp_path, RECIPE + captions, samples)
    assert told == {f"p{i}": f"A man number {i}." for i in range(4)}


@pytest.mark.parametrize(
    ("prefer", "taken"), [('"facecaption", "laion"', "A man."), ('"laion", "facecaption"', "A hat.")]
)
def test_where_no_box_is_bound_the_preferred_source_is_packed(tmp_path: Path, prefer: str, taken: str) -> None:
    samples = [sample("one", "A hat.", 1, described("A man."))]
    told = packed_from(tmp_path, RECIPE + f'[captions]\nmin_words = 2\nprefer = [{prefer}, "text"]\n', samples)
    assert told == {"one": taken}


def test_a_pack_of_nobody_is_whole(tmp_path: Path) -> None:
    near = WITH_LOOK + "[captions]\n[pack]\nnear_duplicate_bits = 6\n"
    assert packed_from(tmp_path, near, [sample("one", "woman", 1)]) == {"one": "caption_short"}
