import csv
import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pictures import sources
from benchmarks.pictures.corpus import BEFORE_TEXT, MANIFEST, MIX, build, planned
from benchmarks.pictures.photos import Photo, photos_of, read, stratified
from benchmarks.verdicts import lettering
from curation.commands.curate.origin import source_shards
from curation.dataset.tar import read_samples
from curation.errors import UsageError
from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from filters import colour
from tests.filters.marks import astronaut, with_gold

LEAST_RESIDUAL = 4.2
"""The toning residual below which the published recipe calls a picture grey or toned."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "one"
    build(Path(os.environ["FACECAPTIONHQ_GOLD"]), folder, num_photos=26, seed=3)
    return folder


@pytest.mark.slow
@with_gold
def test_the_same_seed_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    build(Path(os.environ["FACECAPTIONHQ_GOLD"]), tmp_path / "two", num_photos=26, seed=3)
    names = sorted(path.name for path in corpus.iterdir())
    assert names == ["00000.tar", MANIFEST]
    assert all((corpus / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


@pytest.mark.slow
@with_gold
def test_curate_takes_the_tars_and_the_manifest_says_what_is_in_them(corpus: Path) -> None:
    ((shard, sha256),) = source_shards(corpus)
    assert sha256 is None
    with (corpus / MANIFEST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for sample, row in zip(read_samples(shard.path), rows, strict=True):
        assert (sample.problem, sample.key, sample.uid("00000")) == (None, row["key"], row["uid"])
        assert hashlib.sha256(sample.image_bytes).hexdigest() == row["sha256"] == sample.metadata["sha256"]
        picture = decode(sample.image_bytes, DecodeLimits())
        assert (picture.width, picture.height, picture.format) == (int(row["width"]), int(row["height"]), row["format"])
        assert row["label"] not in sample.metadata.values()
    assert len({row["sha256"] for row in rows}) == len({row["phash"] for row in rows}) == len(rows) == 26


@pytest.mark.slow
@with_gold
def test_only_what_is_labelled_grey_or_toned_has_no_colours_of_its_own(corpus: Path) -> None:
    detector = colour.build(colour.Measure(), "cpu")
    for photo, image_bytes in read(photos_of(str(corpus))):
        if (photo.label in {"bw", "sepia"} and photo.kind != "photo") or photo.label == "single":
            (found,) = detector.measure([decode(image_bytes, DecodeLimits()).rgb])
            assert (found.toning_residual >= LEAST_RESIDUAL) == (photo.label == "single"), photo


def test_the_plan_holds_the_mix_and_three_fifths_go_before_text() -> None:
    plan = planned(2000, seed=1)
    assert Counter(plan) == {one: round(2000 * share) for one, share in MIX.items()}
    assert sum(label in BEFORE_TEXT for label, _ in plan) == 1200
    assert len(planned(7, seed=1)) == 7
    assert plan != planned(2000, seed=2)


def test_sizes_are_those_of_the_upper_fifth_by_area() -> None:
    numbers = np.random.default_rng(0)
    sides = np.array([sources.long_side(numbers) for _ in range(4000)])
    assert sides.min() >= 601
    assert np.median(sides) == pytest.approx(819, rel=0.02)
    assert (sides > 1400).mean() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("kind", sorted(lettering.MUCH))
def test_much_text_covers_more_of_a_picture_than_a_mark(kind: str) -> None:
    picture = astronaut()
    for seed in range(4):
        much = lettering.MUCH[kind](picture, np.random.default_rng(seed)).image
        little = lettering.mark(picture, np.random.default_rng(seed)).image
        written, marked = ((np.abs(one.astype(int) - picture) > 8).any(axis=2).mean() for one in (much, little))
        assert 0 < marked < 0.02 < written


@pytest.mark.parametrize("script", sorted(lettering.WORDS))
def test_every_font_of_a_script_has_its_letters(script: str) -> None:
    words = "".join(lettering.WORDS[script])
    letters = set(words) | set(words.upper() if script in lettering.CASED else "")
    for number in range(len(lettering.FONTS)):
        font = lettering._font(lettering.font_for(script, number), 40.0)
        missing = bytes(font.getmask("\U0010ffff"))
        assert [letter for letter in letters if bytes(font.getmask(letter)) == missing] == []


@with_gold
def test_a_stratified_choice_keeps_the_shares_of_the_labels() -> None:
    photos = photos_of("gold")
    chosen = stratified(photos, 60, seed=5)
    assert chosen == stratified(photos, 60, seed=5) != stratified(photos, 60, seed=6)
    assert len({photo.key for photo in chosen}) == 60
    whole, part = (Counter(photo.label for photo in some) for some in (photos, chosen))
    assert all(abs(part[label] - 60 * count / len(photos)) < 1 for label, count in whole.items())


def test_of_one_label_every_source_gives_a_photo_before_any_gives_a_second() -> None:
    labels, places = ("in", "out"), [(source, number) for source in "ab" for number in range(9)]
    photos = [Photo(f"{s}{n}{label}", label, "photo", Path(s), s) for s, n in [*places, ("c", 0)] for label in labels]
    for seed in range(4):
        chosen = stratified(photos, 6, seed)
        assert all(len({one.source for one in chosen if one.label == label}) == 3 for label in labels)
        assert set(chosen) < set(stratified(photos, 12, seed))


def test_a_folder_without_a_manifest_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no manifest\.csv here"):
        photos_of(str(tmp_path))
