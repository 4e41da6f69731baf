"""Manifests, protocols, and whether references were trained on."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.dataset.sample import uid_of_bytes, uid_of_url
from curation.errors import RecipeError, UsageError
from facemakeup.data.sidecar import Name, Sidecar
from facemakeup.evaluation.face_similarity import Calibration
from facemakeup.evaluation.leakage import (
    Trace,
    check_leakage,
    nearest_people,
    read_identities,
    read_index,
    with_nearest,
)
from facemakeup.evaluation.protocol import PROMPTS, cases, find_picture
from facemakeup.evaluation.published import published, published_sets
from facemakeup.evaluation.reference_set import ReferenceSet, read_manifest
from facemakeup.evaluation.settings import load_evaluation
from tests.places import ROOT


def manifest(folder: Path, *lines: str, head: str = "key,file,identity,role,caption,url,sha256") -> Path:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(name.encode())
    path = folder / "manifest.csv"
    path.write_text("\n".join([head, *lines]))
    return path


@pytest.fixture
def people(tmp_path: Path) -> ReferenceSet:
    digest = hashlib.sha256(b"b.jpg").hexdigest()
    path = manifest(
        tmp_path,
        "a,a.jpg,ann,reference,a woman,https://example.org/a.jpg,",
        f"b,b.jpg,bob,,,,{digest}",
        "c,c.jpg,ann,other,,,",
    )
    return read_manifest(path, "mine")


def test_a_manifest_says_whose_photos_they_are_and_which_are_given(people: ReferenceSet) -> None:
    assert [photo.key for photo in people.references] == ["a", "b"]
    assert people.other_of["ann"].key == "c" and "bob" not in people.other_of
    assert people.photos[0].uid == uid_of_url("https://example.org/a.jpg")
    assert people.photos[1].uid == uid_of_bytes(b"b.jpg")


def test_a_stranger_is_the_next_person_all_around(people: ReferenceSet) -> None:
    strangers = [people.stranger_of(number) for number in range(2)]
    assert [stranger and stranger.key for stranger in strangers] == ["b", "a"]


@pytest.mark.parametrize(
    ("lines", "head", "said"),
    [
        (["a,a.jpg", "a,b.jpg"], "key,file", "key 'a' comes 2 times"),
        (["a,nowhere.jpg", "b,"], "key,file", "(?s)2 faults.*line 2: no such file.*line 3: needs key and file"),
        (["a,a.jpg,guest"], "key,file,role", "role 'guest'; it is one of reference, other"),
        (["a,a.jpg,other"], "key,file,role", "not one row is a reference"),
        (["a,a.jpg," + "0" * 64], "key,file,sha256", f"has sha256 .*, not {'0' * 64}"),
        (["../a,a.jpg"], "key,file", "cannot be a file's name"),
        (["a,a.jpg,1"], "key,file", "no more cells than columns"),
        (["a,a.jpg"], "key,file,person", r"unknown \['person'\]"),
        (["a"], "key", r"missing \['file'\]"),
        ([], "key,file", "not one row is a reference"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_hold_names_every_line(tmp_path: Path, lines: list[str], head: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_manifest(manifest(tmp_path, *lines, head=head), "mine")


def test_p1_asks_for_a_picture_per_reference_and_p20_for_one_per_prompt(people: ReferenceSet, tmp_path: Path) -> None:
    assert [(case.stem, case.prompt) for case in cases(people, "P1")] == [("a", "a woman"), ("b", "")]
    many = cases(people, "P20")
    assert len(PROMPTS) == len(set(PROMPTS)) == 20
    assert [case.stem for case in many[:20]] == [f"a_{number:03d}" for number in range(1, 21)]
    assert {case.prompt for case in many} == set(PROMPTS) and {case.seed for case in many} == {42}
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "a_007.webp").touch()
    assert [find_picture(tmp_path / "made", case) is not None for case in many].index(True) == 6


def trace(key: str, **changes: str) -> Trace:
    return Trace(**{"key": key, "uid": "u" + key, "sha256": "s" + key, "phash": "f" * 16, **changes})


def test_a_reference_is_found_by_uid_by_either_hash_and_by_a_phash_nearby(tmp_path: Path) -> None:
    columns = {
        "uid": ["ua", "x1", "x2", "x3"],
        "sha256": ["t", "sb", "t", "t"],
        "source_sha256": ["t", "t", "sc", "t"],
        "phash": ["0" * 16, "0" * 16, None, "0" * 15 + "f"],
    }
    pq.write_table(pa.table({**columns, "key": list("abcd")}), tmp_path / "index.parquet")
    traces = [trace("a"), trace("b"), trace("c"), trace("d", phash="0" * 15 + "7"), trace("e")]
    found = check_leakage(traces, read_index(tmp_path / "index.parquet"))
    told = {(leak.key, leak.by, leak.sample, leak.distance) for leak in found.leaks}
    assert told == {
        ("a", "uid", "ua", 0.0), ("b", "sha256", "x1", 0.0), ("c", "sha256", "x2", 0.0),
        ("d", "phash", "ua", 3.0), ("d", "phash", "x1", 3.0), ("d", "phash", "x3", 1.0),
    }  # fmt: skip
    assert found.leaked_keys == {"a", "b", "c", "d"} and found.num_samples == 4
    assert found.not_looked_by == ("identity",)


def test_what_an_index_lacks_is_said_to_be_not_looked_for() -> None:
    found = check_leakage([trace("a"), trace("b", uid="ua")], {"uid": ["ua"]})
    assert {leak.key for leak in found.leaks} == {"a", "b"}
    assert found.not_looked_by == ("sha256", "phash", "identity")


def test_a_file_that_is_no_index_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no")
    for name in ("other", "text", "nowhere"):
        with pytest.raises(UsageError, match=f"{name}.parquet"):
            read_index(tmp_path / f"{name}.parquet")


def test_the_nearest_person_of_training_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facemakeup.evaluation.leakage.BLOCK", 3)
    draw = np.random.default_rng(0)
    training = draw.normal(size=(8, 5))
    references = np.stack([training[7] * 3, training[1] + draw.normal(0, 0.01, 5), draw.normal(size=5)])
    nearest, leaks = nearest_people(["a", "b", "c"], references, training, list("01234567"), threshold=0.99)
    assert [(leak.key, leak.sample) for leak in leaks] == [("a", "7"), ("b", "1")]
    units = training / np.linalg.norm(training, axis=1, keepdims=True)
    assert nearest["c"] == pytest.approx((units @ references[2] / np.linalg.norm(references[2])).max())


@pytest.mark.parametrize(("same", "named"), [(60.0, ["a"]), (None, [])])
def test_people_of_a_cache_are_named_from_half_way_between_one_person_and_strangers(
    tmp_path: Path, same: float | None, named: list[str]
) -> None:
    cache = Sidecar(tmp_path, "identities", {"name": "any", "width": 4, "sha256": "0" * 64})
    rows = np.eye(4, dtype=np.float16)
    for shard, numbers in (("00000", (0, 1)), ("00001", (2,))):
        cache.write(shard, [(Name(f"uid{number}", 0), "key", rows[number]) for number in numbers])
    trained = read_identities(cache.folder)
    assert (trained.recogniser, list(trained.names)) == ("any", ["uid0", "uid1", "uid2"])
    references = {"a": np.array([0.0, 0, 1, 0.2]), "b": np.array([0.0, 0.3, 0, 1])}
    calibration = Calibration(same, 3, 20.0, 9, None)
    found = with_nearest(check_leakage([trace("a"), trace("b")], {}), references, trained, calibration)
    assert [leak.key for leak in found.leaks] == named and "identity" in found.looked_by
    assert found.threshold == (0.4 if same else None)
    assert found.nearest["b"] == pytest.approx(0.3 / np.hypot(0.3, 1))


def test_a_folder_that_is_no_cache_of_identities_is_refused(tmp_path: Path) -> None:
    latents = Sidecar(tmp_path, "latents", {"name": "vae", "sha256": "0" * 64})
    latents.write("00000", [])
    for folder, said in ((tmp_path, "no cache of identity vectors"), (latents.folder, "a cache of latents")):
        with pytest.raises(UsageError, match=said):
            read_identities(folder)


def test_the_published_rows_have_every_column_and_their_own_spread() -> None:
    assert [(entry.name, entry.num) for entry in published_sets()] == [("Unsplash-Face", 50), ("FaceCaption", 1000)]
    for entry in published_sets():
        assert {len(row) for row in (*entry.rows.values(), *entry.rerun.values())} == {7}
        assert set(entry.rows) == {"IP-Adapter", "PhotoMaker", "InstantID", "PuLID", "Face-MakeUp"}
    table = published("FaceCaption")
    assert table is not None and table.tolerance["CLIP-I"] == 12.3 and table.tolerance["FID"] == 4.6
    assert published("mine") is None


def test_the_bundled_evaluations_hold(tmp_path: Path) -> None:
    for path in sorted((ROOT / "configs" / "evaluation").glob("*.toml")):
        settings = load_evaluation(path)
        assert published(settings.set.name) is not None
    lines = ["[set]", 'name = "x"', 'manifest = "m"', "[[methods]]", 'name = "a"', 'images = "c"', 'folder = "b"']
    (tmp_path / "bad.toml").write_text("\n".join(lines))
    with pytest.raises(RecipeError, match=r"methods\.0\.folder: unknown key"):
        load_evaluation(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("", "name either `images`, a folder, or `generator`"),
        ('images = "a"\ngenerator = { kind = "instantid" }', "checkpoint"),
        ('generator = { kind = "stylegan" }', "stylegan"),
        ('generator = { kind = "face-makeup", adapter = "a" }\nrecogniser = "b"', "says itself which recogniser"),
    ],
)  # fmt: skip
def test_a_method_is_either_a_folder_or_what_draws(tmp_path: Path, method: str, said: str) -> None:
    path = tmp_path / "e.toml"
    path.write_text(f'[set]\nname = "x"\nmanifest = "m"\n[[methods]]\nname = "a"\n{method}\n')
    with pytest.raises(RecipeError, match=said):
        load_evaluation(path)
