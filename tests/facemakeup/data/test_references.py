import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UsageError
from facemakeup.config import Recogniser
from facemakeup.data.caches import plan_of
from facemakeup.data.dataset import TarDataset, open_dataset
from facemakeup.data.order import batch
from facemakeup.data.people import grouped, people_of
from facemakeup.faces.augment import augmented
from facemakeup.faults import ReadingError
from facemakeup.model.encoders import Encoders
from tests.facemakeup import tiny
from tests.facemakeup.data.test_dataset import config_for, taken
from tests.facemakeup.tars import packed_sample, write_packed
from tests.pictures import scene

NUM = 16


def uid_of(number: int) -> str:
    return hashlib.sha256(f"sample {number}".encode()).hexdigest()[:32]


def write_people(path: Path, persons: Mapping[int, str | None]) -> str:
    table = pa.table({"uid": [uid_of(n) for n in persons], "person": list(persons.values())})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        lines = [f"{uid},{person or ''}" for uid, person in zip(*table.to_pydict().values(), strict=True)]
        path.write_text("uid,person\n" + "\n".join(lines) + "\n")
    return str(path)


@given(st.lists(st.integers(0, 4), max_size=24), st.integers(0, 99))
def test_everybody_elses_photo_is_never_one_and_each_of_ones_own_comes_once(persons: list[int], seed: int) -> None:
    rows = np.arange(len(persons), dtype=np.int64) * 3
    people = grouped(rows, np.array(persons, dtype=np.int64))
    for number, person in enumerate(persons):
        others = list(people.others(int(rows[number]), np.random.default_rng(seed)))
        own = {int(rows[n]) for n, other in enumerate(persons) if other == person and n != number}
        assert len(others) == len(own) and set(others) == own
    assert list(people.others(1, np.random.default_rng(seed))) == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_people_is_taken_at_its_word_or_refused_with_what_is_wrong(tmp_path: Path, suffix: str) -> None:
    keys, none = pa.array([uid_of(n) for n in range(6)]), np.array([5])
    path = tmp_path / f"people{suffix}"
    people = people_of(write_people(path, {0: "a", 1: "b", 2: "a", 3: None, 4: "b", 5: "b", 77: "a"}), keys, none)
    assert people.rows_M.tolist() == [0, 2, 1, 4] and people.firsts_P.tolist() == [0, 2]
    other_way_round = {5: "b", 4: "b", 1: "b", 77: "a", 2: "a", 0: "a"}
    assert people_of(write_people(path, other_way_round), keys, none).digest == people.digest
    with pytest.raises(UsageError, match=r"people\.\w+: of 3 lines 2 name a sample that is trained on, and no two"):
        people_of(write_people(path, {0: "a", 1: "b", 5: "b"}), keys, none)
    both = pa.table({"uid": ["x", "x"], "person": ["a", "b"]})
    pq.write_table(both, tmp_path / "both.parquet")
    with pytest.raises(UsageError, match="x is said to be several people"):
        people_of(str(tmp_path / "both.parquet"), keys, none)
    pq.write_table(both.rename_columns(["id", "who"]), tmp_path / "both.parquet")
    for name in ("both.parquet", "nowhere.csv"):
        with pytest.raises(UsageError, match=r"no Parquet or CSV with the columns uid and person"):
            people_of(str(tmp_path / name), keys, none)


@pytest.fixture
def opened(tmp_path: Path, base: Path, recogniser: Recogniser) -> Any:
    """What opens the training set of drawn faces, the first of which cannot be used, with a table `reference`."""
    samples = [packed_sample(0, face_landmarks=None), *(packed_sample(n) for n in range(1, NUM))]
    write_packed(tmp_path / "tars", samples, per_shard=6)
    encoders = Encoders.load(tiny.tiny_config(base))

    def opened(**reference: Any) -> TarDataset:
        config = config_for(base, recogniser, reference=reference, validation={"choice": "first", "num_samples": 2})
        return open_dataset([f"{tmp_path}/tars/*.tar"], config, plan_of(config, encoders), tmp_path / "work")[0]

    return opened


@pytest.mark.slow
def test_another_photo_stands_for_a_sample_whichever_way_the_stream_is_cut_and_only_one_that_is_trained_on(
    tmp_path: Path, opened: Any
) -> None:
    persons = {n: "ab"[n % 2] if 1 < n < 8 else f"alone {n}" for n in range(NUM)}
    people = write_people(tmp_path / "people.csv", persons)
    plain, paired = opened(), opened(people=people)
    assert paired.digest != plain.digest and opened(augment=True).digest == plain.digest
    vectors = {
        one.batch.uids[i]: one.batch.identity_BD[i].numpy().tobytes() for one in taken(plain, 0, 1, 4) for i in range(2)
    }
    whole, halves = taken(paired, 0, 1, 4), [one for rank in (0, 1) for one in taken(paired, rank, 2, 4)]
    seen = [_rows(loaded) for loaded in (whole, halves)]
    assert seen[0] == seen[1] and len(seen[0]) == 32
    names = {vector: uid for uid, vector in vectors.items()}
    for uid, vector, _ in seen[0].values():
        who = next(n for n in range(NUM) if uid_of(n) == uid)
        other = next(n for n in range(NUM) if uid_of(n) == names[vector])
        assert other > 1 and (other == who if who >= 8 else other != who and persons[other] == persons[who])
    notes = sum((Counter(one.notes) for one in whole), Counter[str]())
    num_paired = sum(next(n for n in range(NUM) if uid_of(n) == uid) < 8 for uid, _, _ in seen[0].values())
    assert (notes["reference_paired"], notes["reference_own"]) == (num_paired, 32 - num_paired) and num_paired > 4
    some = sum((Counter(one.notes) for one in taken(opened(people=people, share=0.5), 0, 1, 4)), Counter[str]())
    assert 0 < some["reference_paired"] < num_paired


def test_a_photo_that_cannot_stand_for_another_is_named_and_the_next_one_does(tmp_path: Path, opened: Any) -> None:
    dataset = opened(people=write_people(tmp_path / "people.csv", dict.fromkeys(range(2, NUM), "a")))
    first = tmp_path / "tars/jpg-00001.tar"
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    loaded = taken(dataset, 0, 1, 8)
    faults = [fault for one in loaded for fault in one.faults]
    assert {fault.reason for fault in faults} == {"torn_tar"}
    assert sum((Counter(one.notes) for one in loaded), Counter[str]())["reference_paired"] == 64


def test_what_comes_up_while_a_reference_is_read_names_the_reference(tmp_path: Path, opened: Any) -> None:
    dataset = opened(people=write_people(tmp_path / "people.csv", {4: "a", 15: "a"}))
    places = [place for n in range(2) for place in batch(dataset.order, n) if dataset.index.key(place.row) == uid_of(4)]
    (tmp_path / "tars/jpg-00002.tar").unlink()  # where the other photo of this person lies
    with pytest.raises(ReadingError) as raised:
        dataset.load(places[:1])
    told = str(raised.value)
    assert "jpg-00002.tar" in told and uid_of(15) in told and "reference" in told and uid_of(4) not in told


@pytest.mark.parametrize("apart", ["people", "photos"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_who_is_in_the_validation_set_is_not_trained_on(
    tmp_path: Path, base: Path, recogniser: Recogniser, apart: str, elsewhere: bool
) -> None:
    write_packed(tmp_path / "tars", [packed_sample(n) for n in range(12)], per_shard=6)
    write_packed(tmp_path / "other", [packed_sample(n) for n in (20, 21)])
    of_validation = [20, 21] if elsewhere else [0, 1]
    people = {**dict.fromkeys([of_validation[0], 5, 9], "in both"), 2: "a", 3: "a", of_validation[1]: "alone"}
    reference = {"people": write_people(tmp_path / "people.csv", people)}
    validation: dict[str, Any] = {"choice": "first", "num_samples": 2, "apart": apart}
    validation |= {"data": [f"{tmp_path}/other/*.tar"]} if elsewhere else {}
    config = config_for(base, recogniser, reference=reference, validation=validation)
    plan, patterns = plan_of(config, Encoders.load(config.model)), [f"{tmp_path}/tars/*.tar"]
    trained, held_out = open_dataset(patterns, config, plan, tmp_path / "work")
    rows = {place.row for n in range(4) for place in batch(trained.order, n)}
    left_out = (set() if elsewhere else {0, 1}) | ({5, 9} if apart == "people" else set())
    assert {trained.index.key(row) for row in rows} == {uid_of(n) for n in range(12) if n not in left_out}
    assert {held_out.index.key(place.row) for place in batch(held_out.order, 0)} == {uid_of(n) for n in of_validation}
    everybody = {"people": write_people(tmp_path / "all.csv", dict.fromkeys([*range(12), 20, 21], "one"))}
    alike = config_for(base, recogniser, reference=everybody, validation=validation)
    if apart == "people":
        with pytest.raises(UsageError, match=r"all\.csv: everybody is in the validation set, too"):
            open_dataset(patterns, alike, plan, tmp_path / "work")
        more = {**people, 7: "alone"}  # nobody with two photos to train on is another, and yet the order is
        write_people(tmp_path / "people.csv", more)
        assert open_dataset(patterns, config, plan, tmp_path / "work")[0].digest != trained.digest


def test_a_view_is_another_face_each_time_it_is_met_and_leaves_identity_and_picture_alone(opened: Any) -> None:
    plain, augmented_ones = (_rows(taken(opened(augment=on), 0, 1, 6)) for on in (False, True))
    assert {p: row[:2] for p, row in plain.items()} == {p: row[:2] for p, row in augmented_ones.items()}
    assert not {row[2] for row in plain.values()} & {row[2] for row in augmented_ones.values()}
    assert len({row[2] for row in augmented_ones.values()}) == 48


def test_an_augmented_face_keeps_its_size_and_stays_near_what_it_was() -> None:
    face = scene(3, 64, 64)
    views = [augmented(face, np.random.default_rng(n)) for n in range(20)]
    assert {(view.shape, str(view.dtype)) for view in views} == {((64, 64, 3), "uint8")}
    assert all(abs(float(view.mean()) / face.mean() - 1) < 0.35 for view in views)
    assert np.array_equal(views[4], augmented(face, np.random.default_rng(4)))


def _rows(loaded: list[Any]) -> dict[int, tuple[Any, ...]]:
    """Return position -> uid, identity vector and aligned face."""
    rows = {}
    for one in loaded:
        told = one.batch.identity_BD, one.batch.faces_BSSC
        for i, position in enumerate(one.batch.positions):
            rows[position] = (one.batch.uids[i], *(tensor[i].numpy().tobytes() for tensor in told))
    return rows
