"""What tells drawn faces, animals and statues from people: photos that everybody may have, and labelled ones."""

import csv
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from curation.commands.curate.stage import curate
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.images.decode import decode
from curation.recipe.joint_scores import Bounds
from curation.recipe.judge import KeepRange
from curation.recipe.recipe import load_recipe
from curation.recipe.settings import DecodeLimits
from curation.run.runner import Spread
from demo.drawing import draw_face
from filters import drawn
from filters.base import RgbImage
from filters.drawn import DrawnEvidence
from filters.heads import Heads
from filters.weights import WeightsError, add, entry_of, find_weights, sha256_of
from tests.curation.shards import encode, recipe_from, sample_members, write_shard
from tests.filters.marks import astronaut, with_efficientnet, with_gold2
from tests.pictures import noise

NUM_OF_EACH = 8


def measured(*images: RgbImage, measure: drawn.Measure | None = None) -> list[DrawnEvidence]:
    return list(drawn.build(measure or drawn.Measure(), "cpu").measure(images))


def test_a_logit_of_zero_is_even_odds_and_extreme_ones_stay_probabilities() -> None:
    scores = drawn.scores(DrawnEvidence(0.0, -2000.0), drawn.Score())
    assert scores == {
        "drawn_logit": 0.0, "drawn_probability": 0.5, "nonhuman_logit": -2000.0, "nonhuman_probability": 0.0
    }  # fmt: skip
    assert drawn.scores(DrawnEvidence(2000.0, 1.0), drawn.Score())["drawn_probability"] == 1.0


def test_the_heads_in_the_package_are_those_of_the_catalogue_and_belong_to_its_network() -> None:
    entry, file = entry_of("drawn_heads"), find_weights("drawn_heads")
    text = Path(file.path).read_text(encoding="ascii")
    heads = Heads.model_validate_json(text)
    assert len(text) == entry.num_bytes and heads.network_sha256 == entry_of("efficientnet_lite0").sha256
    assert set(heads.heads) == set(drawn.HEADS) and heads.written() == text
    assert min(heads.training.num_pictures.values()) > 30


@with_efficientnet
def test_a_portrait_is_a_photo_of_a_person_and_a_cat_is_none() -> None:
    from skimage import data

    person, cat = measured(astronaut(), np.asarray(data.chelsea()))
    assert person.drawn_logit < 0 and person.nonhuman_logit < 0 < cat.nonhuman_logit


@with_efficientnet
def test_pictures_of_any_shape_are_measured_and_none_depends_on_the_others() -> None:
    images = [noise(2, width, height) for width, height in ((1, 1), (4000, 1), (3, 4000), (224, 224))] + [astronaut()]
    together = measured(*images)
    assert together == [measured(image)[0] for image in images]
    assert all(np.isfinite([one.drawn_logit, one.nonhuman_logit]).all() for one in together)


@with_efficientnet
def test_heads_of_ones_own_are_taken_by_name_and_those_of_another_network_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(Path(find_weights("efficientnet_lite0").path).parent))
    text = Path(find_weights("drawn_heads").path).read_text(encoding="ascii")
    heads = Heads.model_validate_json(text)
    shifted = {name: head.model_copy(update={"bias": head.bias + 3}) for name, head in heads.heads.items()}
    own, foreign = tmp_path / "own.json", tmp_path / "foreign.json"
    own.write_text(heads.model_copy(update={"heads": shifted}).written(), encoding="ascii")
    foreign.write_text(heads.model_copy(update={"network_sha256": "ab" * 32}).written(), encoding="ascii")
    (before,) = measured(astronaut())
    monkeypatch.setattr("filters.weights.cache_folder", lambda: tmp_path / "cache")
    for file in (own, foreign):
        add(file, file.stem, sha256_of(file))
    with pytest.raises(WeightsError, match=r"foreign\.json: taught on a network of sha256 abab"):
        drawn.build(drawn.Measure(heads="foreign"), "cpu")
    (after,) = measured(astronaut(), measure=drawn.Measure(heads="own"))
    assert after.drawn_logit == pytest.approx(before.drawn_logit + 3)


@with_efficientnet
def test_curate_keeps_the_portrait_and_names_the_score_that_rejects_the_drawing_and_the_cat(tmp_path: Path) -> None:
    from skimage import data

    drawing = draw_face(1, 320)
    pictures = {
        "cat": data.chelsea(),
        "drawing": np.asarray(drawing.convert("RGB")),
        "person": astronaut()[:300, 80:380],
    }
    samples = [sample_members(key, encode(image, "PNG", 320), "png") for key, image in pictures.items()]
    write_shard(tmp_path / "in", "00000", samples)
    stanzas = Path(load_recipe("facecaptionhq-4m").path).read_text().split("[[filters]]")
    (own,) = [stanza for stanza in stanzas if 'name = "drawn"' in stanza]
    recipe = recipe_from(tmp_path, f'schema_version = 1\nname = "drawn-alone"\n[[filters]]{own}')
    curate(tmp_path / "in", tmp_path / "out", recipe, Spread(0))
    rows = {row["key"]: row for row in read_ledger(tmp_path / "out" / "00000.parquet").to_pylist()}
    assert rows["person"]["kept"] and {rows[key]["rejected_by"] for key in ("cat", "drawing")} == {"drawn"}
    assert rows["drawing"]["reason"] == "drawn_logit_high" and rows["cat"]["reason"] == "nonhuman_logit_high"
    weights = read_manifest(tmp_path / "out").weights
    assert weights == {name: find_weights(name).sha256 for name in ("drawn_heads", "efficientnet_lite0")}


@with_efficientnet
@with_gold2
def test_of_labelled_photos_the_recipe_keeps_portraits_and_rejects_drawings_and_animals() -> None:
    """These photos taught the heads: this notices heads gone blind, and says nothing of other photos."""
    recipe = load_recipe("facecaptionhq-4m")
    plan = next(plan for plan in recipe.filters if plan.name == "drawn")
    filter_ = plan.module.build(plan.measure, "cpu")
    stay = {}
    for kind, files in sample(Path(os.environ["FACECAPTIONHQ_GOLD2"])).items():
        evidence = filter_.measure([decode(file.read_bytes(), DecodeLimits()).rgb for file in files])
        stay[kind] = sum(stays(plan.keep, plan.scores(one)) for one in evidence)
    assert stay["other single"] >= NUM_OF_EACH - 1 and stay["headcovering"] >= NUM_OF_EACH - 1 and stay["mask"] >= 7
    drawings = ("anime", "cartoon", "sketch", "painting", "render")
    assert sum(stay[kind] for kind in drawings) <= 4 and stay["animal"] + stay["statue"] + stay["toy"] <= 2


def stays(keeps: Mapping[str, KeepRange], scores: Mapping[str, float]) -> bool:
    return all(keep.holds(Bounds(scores[name], scores[name])) for name, keep in keeps.items())


def sample(folder: Path) -> dict[str, list[Path]]:
    """Eight photos of each kind, evenly spread over the manifest."""
    files = defaultdict(list)
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as manifest:
        for row in csv.DictReader(manifest):
            tags = row["tags"].split()
            kind = next((tag for tag in KINDS.get(row["label"], ()) if tag in tags), f"other {row['label']}")
            files[kind].append(folder / "images" / row["file"])
    chosen = ("other single", *(kind for kinds in KINDS.values() for kind in kinds))
    return {kind: files[kind][:: len(files[kind]) // NUM_OF_EACH][:NUM_OF_EACH] for kind in chosen}


KINDS = {
    "single": ("headcovering", "mask"),
    "anime": ("anime", "cartoon", "sketch", "painting", "render"),
    "noface": ("animal", "statue", "toy"),
}
"""Label -> the tags that make a kind of their own."""
