"""`teach`: a class of one's own from labels, by real pictures and the real network, then a recipe that judges by it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.review.desk import Choices, open_desk
from curation.commands.teach import features
from curation.commands.teach.card import require_own
from curation.commands.teach.features import WantedPicture, features_of
from curation.commands.teach.lesson import Wish, teach
from curation.dataset.labels import Label, line_of
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.dataset.sample import uid_of_url
from curation.errors import UsageError
from curation.learning.limits import Target
from curation.run.runner import Spread
from curation.storage.lease import hold
from demo.drawing import draw_face
from filters.base import RgbImage
from filters.heads import Heads
from filters.weights import find_weights
from tests.curation.shards import encode, recipe_from, sample_members, write_shard
from tests.filters.marks import with_efficientnet

RECIPE = """
schema_version = 1
name = "before"
[curate]
isolate = false
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 0.0 }
"""
NUM_OF_EACH, NUM_UNLABELLED, NUM_HOSTS = 12, 3, 4
TIME = "2026-01-01T00:00:00Z"


def url_of(number: int) -> str:
    return f"http://host{number % NUM_HOSTS}.example.org/{number}.png"


def picture(number: int) -> RgbImage:
    """Drawings first, then pieces of photos."""
    from skimage import data

    if number < NUM_OF_EACH:
        return np.asarray(draw_face(number, 224).convert("RGB"))
    photo = (data.astronaut, data.chelsea, data.coffee)[number % 3]()
    left = 7 * number % (photo.shape[1] - 256)
    return np.asarray(photo[20:276, left : left + 256])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teach")
    total = 2 * NUM_OF_EACH + NUM_UNLABELLED
    members = [
        sample_members(f"{number:03d}", encode(picture(number), "PNG", 224), "png", url_of(number))
        for number in range(total)
    ]
    for shard in range(2):
        write_shard(folder / "in", f"{shard:05d}", members[shard::2])
    curate(folder / "in", folder / "run" / "curate", recipe_from(folder, RECIPE), Spread(0))
    words = ["sketch"] * NUM_OF_EACH + ["single"] * NUM_OF_EACH
    labels = [Label(uid_of_url(url_of(number)), word, "anna", TIME) for number, word in enumerate(words)]
    (folder / "labels.jsonl").write_text("".join(map(line_of, labels)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["head.md", "head", "notes.json", "mine.json"])
def test_a_head_takes_no_place_of_another_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.json").write_text('{"not": "a head"}')
    (tmp_path / "mine.md").write_text("# Mine\n")
    with pytest.raises(UsageError, match=r"is a \.json|is there already"):
        require_own(tmp_path / name)
    (tmp_path / "ours.md").write_text("# Head `sketch`: model card\n\nA logistic")
    require_own(tmp_path / "ours.json")


@pytest.mark.slow
@with_efficientnet
def test_a_head_is_taught_judged_named_in_a_recipe_and_its_features_are_forgotten(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(Path(find_weights("efficientnet_lite0").path).parent))
    monkeypatch.setattr("filters.weights.cache_folder", lambda: run / "cache")

    def call(*arguments: object) -> Any:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        assert done.exception is None, done.output
        return done

    asked: tuple[object, ...] = (
        "teach",
        run / "labels.jsonl",
        run / "run",
        "--label",
        "sketch",
        "--out",
        run / "sketch.json",
    )
    asked += ("--source", run / "in", "--queue", "2", "--json")
    first = call(*asked)
    told = json.loads(first.stdout)
    assert (
        told["auc"] > 0.95
        and told["sources_left_out"]["recall"]["value"] > 0.9
        and told["recipe"]["recall"]["value"] == 0
    )
    assert "shard 00001 (2 of 2): 12 pictures" in first.stderr and "features" not in call(*asked).stderr
    unlabelled = {uid_of_url(url_of(number)) for number in range(2 * NUM_OF_EACH, 2 * NUM_OF_EACH + NUM_UNLABELLED)}
    assert len(told["queue"]) == 2 and {one["uid"] for one in told["queue"]} < unlabelled
    assert {one["stratum"] for one in told["queue"]} == {"uncertain"} and "probability" not in told["queue"][0]
    card = (run / "sketch.md").read_text()
    assert told["training"]["manifest_sha256"] in card and told["stanza"] in card

    call("models", "add", run / "sketch.json", "--name", "sketch", "--sha256", told["sha256"])
    recipe_from(run / "own", RECIPE + told["stanza"] + "\n")
    call("decide", run / "run", "--recipe", run / "own" / "recipe.toml", "--source", run / "in", "--workers", "0")
    manifest = read_manifest(run / "run" / "curate")
    assert manifest.rejected["own_sketch"]["logit_high"] >= NUM_OF_EACH - 2
    assert manifest.num_kept >= NUM_OF_EACH and manifest.weights["sketch"] == told["sha256"]

    desk = open_desk(run / "run", Choices("ada", source=run / "in"))
    by_features, by_scores = desk.points(), desk.points("scores")
    total = 2 * NUM_OF_EACH + NUM_UNLABELLED
    assert (by_features["by"], by_scores["by"]) == ("features", "scores")
    assert by_features["num"] == {"features": total, "scores": total} and len(set(by_features["uids"])) == total
    places = dict(zip(by_features["uids"], np.array(by_features["places"]), strict=True))
    sides = [np.mean([places[uid_of_url(url_of(n))] for n in who], axis=0) for who in (range(12), range(12, 24))]
    assert np.abs(sides[0] - sides[1]).max() > 0.5  # drawings lie apart from photos
    desk.close()

    uid = uid_of_url(url_of(0))
    (run / "requests.txt").write_text(f"{uid}\n")
    call("forget", run / "run", "--list", run / "requests.txt")
    files = list((run / "run" / "curate-features").rglob("*.parquet"))
    rows = [row for file in files for row in read_ledger(file, ["uid"]).to_pylist()]
    assert len(files) == 2 and len(rows) == 2 * NUM_OF_EACH + NUM_UNLABELLED - 1
    assert uid not in {row["uid"] for row in rows}


@pytest.mark.slow
@with_efficientnet
def test_a_head_of_drawn_keeps_its_sisters_and_pictures_that_are_gone_teach_nothing(run: Path, tmp_path: Path) -> None:
    wish = Wish("sketch", ("single",), head="drawn")
    taught = teach(run / "run", run / "labels.jsonl", wish, Target("recall", 0.9), run / "in", tell=lambda line: None)
    package = Heads.model_validate_json(Path(find_weights("drawn_heads").path).read_bytes())
    assert set(taught.heads.heads) == {"drawn", "nonhuman"} and taught.heads.mean == package.mean
    assert taught.heads.heads["nonhuman"] == package.heads["nonhuman"] != taught.heads.heads["drawn"]
    assert taught.heads.training_of("nonhuman") == package.training
    manifest = read_manifest(run / "run" / "curate")
    assert features_of(run / "run" / "curate", manifest, tmp_path / "gone", []) == {}


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish("hat"), "nothing is labelled 'hat'"),
        (Wish("sketch", head="drawn", is_to_stay=True), "what this head of the filter `drawn` tells is to go"),
    ],
)
def test_a_wish_that_cannot_be_taught_is_refused(run: Path, wish: Wish, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        teach(run / "run", run / "labels.jsonl", wish, Target())


def test_what_is_forgotten_while_features_are_measured_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = 3
    members = [sample_members(f"{n:03d}", encode(picture(n), "PNG", 224), "png", url_of(n)) for n in range(total)]
    write_shard(tmp_path / "in", "00000", members)
    curate(tmp_path / "in", tmp_path / "run" / "curate", recipe_from(tmp_path, RECIPE), Spread(0))
    folder = tmp_path / "run" / "curate"
    rows = read_ledger(folder / "00000.parquet").to_pylist()
    wanted = [WantedPicture(row["uid"], row["sha256"], "00000") for row in rows]
    measured: list[str] = []
    left: list[Any] = []

    def slow(pictures: Any, recipe: object, weights: object) -> Any:
        """Stand in for the network, whose weights need not be here, and let takedowns come while it is at work."""
        for sha256, _ in pictures:
            measured.append(sha256)
            yield sha256, np.zeros(4, np.float32)
        if len(measured) == total:
            with hold(tmp_path / "run" / "curate-features"):
                left.append(forget(tmp_path / "run", read_requests([url_of(0)], "list"))[1]["not_reached"])
            left.append(forget(tmp_path / "run", read_requests([url_of(2)], "list"))[1]["not_reached"])

    monkeypatch.setattr(features, "weights_of", lambda recipe: {})
    monkeypatch.setattr("curation.measure.features.measurement_keys", lambda recipe, weights: {"taught": "k" * 64})
    monkeypatch.setattr(features, "_measured", slow)
    manifest, source = read_manifest(folder), tmp_path / "in"
    assert set(features_of(folder, manifest, source, wanted[:1])) == {wanted[0].uid}
    (file,) = (tmp_path / "run" / "curate-features").rglob("*.parquet")
    found = features_of(folder, manifest, source, wanted)
    kept = {uid_of_url(url_of(1))}
    assert set(found) == set(read_ledger(file)["uid"].to_pylist()) == kept and len(measured) == total
    assert [*map(len, left)] == [1, 0] and "held by another run" in str(left[0])
