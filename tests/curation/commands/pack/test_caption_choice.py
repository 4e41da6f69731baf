"""Captions that are not fit to train on: who has no other stays out by name, who has another is packed with that."""

import json
from pathlib import Path
from typing import Any

import pytest

from curation.commands.curate import curate
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
from tests.curation.shards import RECIPE, bytes_of, colourful, recipe_from, write_shard

ALONE = Spread(num_workers=0)
WITH_CAPTIONS = RECIPE + "[captions]\nmax_repeats = 2\n"
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
