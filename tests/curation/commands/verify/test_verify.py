import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.curate.stage import curate
from curation.commands.report.write import write_report
from curation.commands.verify.check import living_faults, verify
from curation.commands.verify.faults import Verification
from curation.dataset.ledger import read_ledger, write_table
from curation.dataset.manifest import ShardReport, read_manifest, total
from curation.dataset.tar import members_of, read_samples, write_tar
from curation.dataset.tombstones import Tombstones, write_tombstones
from curation.run.folders import stages_of
from curation.run.runner import Spread
from curation.storage.paths import location
from curation.storage.publish import publish_sealed, read_sealed, record_of
from tests.curation.shards import colourful, recipe_from, sample_members, write_shard
from tests.curation.whole_run import ALONE, files_of, flip_a_bit, write_run

Edit = Callable[[list[dict[str, Any]]], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report."""
    run = tmp_path_factory.mktemp("whole") / "run"
    write_run(run)
    write_report(run)
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to do harm to, without the report."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "report")
    return tmp_path / "run"


def named(found: Verification, name: str) -> list[str]:
    return [str(fault) for fault in found.faults if fault.file == name]


def record_again(folder: Path, name: str) -> None:
    """Make done record and manifest agree with a file that was changed, as a liar would."""
    record = vars(record_of(folder / name))
    manifest = read_sealed(folder / "manifest.json")
    for shard in manifest["shards"]:
        if name in shard["files"]:
            shard["files"][name] = record
            stats = folder / f"{shard['shard']}_stats.json"
            publish_sealed(stats, {**read_sealed(stats), "files": shard["files"]})
    if name in manifest["files"]:
        manifest["files"][name] = record
    publish_sealed(folder / "manifest.json", manifest)


def edit_rows(folder: Path, name: str, edit: Edit) -> None:
    table = read_ledger(folder / name)
    footer = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    rows = table.to_pylist()
    edit(rows)
    write_table(folder / name, pa.Table.from_pylist(rows, schema=table.schema), footer)
    record_again(folder, name)


def edit_tar(folder: Path, name: str, edit: Callable[[list[tuple[str, bytes]]], None]) -> None:
    content = (folder / name).read_bytes()
    members = [(m.name, content[m.offset + 512 : m.offset + 512 + m.num_bytes]) for m in members_of(folder / name)]
    edit(members)
    write_tar(folder / name, members)
    record_again(folder, name)


def test_a_whole_run_has_no_fault_and_nothing_is_written(whole: Path) -> None:
    before = files_of(whole)
    found = verify(whole, ALONE)
    assert (found.faults, found.notes) == ((), ())
    assert found.num_shards == 1 + 3 + 3 + len(list((whole / "pack").glob("*.tar")))
    assert files_of(whole) == before


@pytest.mark.slow
def test_one_stage_alone_a_bucket_and_any_number_of_workers_give_the_same(
    whole: Path, run: Path, ray_address: str
) -> None:
    for stage in ("rank", "fetch", "curate", "pack"):
        assert verify(whole / stage, ALONE).ok
    flip_a_bit(run / "fetch" / "00001.tar", random.Random(1))
    alone = verify(run, ALONE)
    assert not alone.ok
    assert verify(run, Spread(2, ray_address)) == alone
    bucket = location("memory://bucket/run")
    for name, content in files_of(run).items():
        (bucket / name).parent.mkdir(parents=True, exist_ok=True)
        (bucket / name).write_bytes(content)
    assert verify(bucket, ALONE).faults == alone.faults


@pytest.mark.slow
def test_a_flipped_bit_of_any_file_is_found_by_the_name_of_its_file(whole: Path) -> None:
    """`benchmarks.faults.bitflips` flips two thousand."""
    random_numbers = random.Random(2026)
    for path in sorted(path for path in whole.rglob("*") if path.is_file() and path.stat().st_size):
        content = path.read_bytes()
        flip_a_bit(path, random_numbers)
        assert named(verify(whole, ALONE), path.relative_to(whole).as_posix()), path
        path.write_bytes(content)
    assert verify(whole, ALONE).ok


def test_a_tar_cut_at_any_block_is_found_by_name(run: Path) -> None:
    path = run / "fetch" / "00002.tar"
    content = path.read_bytes()
    for length in range(0, len(content), 512):
        path.write_bytes(content[:length])
        assert named(verify(run / "fetch", ALONE), "fetch/00002.tar"), length
    path.unlink()
    assert "missing" in named(verify(run, ALONE), "fetch/00002.tar")[0]


def test_an_input_tar_cut_at_any_block_before_its_end_fails_its_shard_by_name(tmp_path: Path) -> None:
    source = write_shard(tmp_path / "in", "00000", [sample_members(str(n), colourful(n, side=16)) for n in range(2)])
    content, members = source.read_bytes(), members_of(source)
    end = members[-1].offset + 512 + (members[-1].num_bytes + 511) // 512 * 512
    for length in range(0, end + 1024, 512):
        source.write_bytes(content[:length])
        manifest = curate(source.parent, tmp_path / f"out{length}", recipe_from(tmp_path), ALONE)
        assert "00000.tar" in manifest.failed["00000"], length
        assert manifest.num_seen == 0


def first_kept(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["kept"])


def first_rejected(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return next(row for row in rows if row["rejected_by"] == "colour")


def set_score(rows: list[dict[str, Any]]) -> None:
    first_kept(rows)["colour_scores"]["mean_channel_std"] += 0.5


def keep_a_grey_one(rows: list[dict[str, Any]]) -> None:
    first_rejected(rows).update(kept=True, rejected_by=None, reason=None)


def reject_a_good_one(rows: list[dict[str, Any]]) -> None:
    first_kept(rows).update(kept=False, rejected_by="colour", reason="mean_channel_std_low")


def forget_the_evidence(rows: list[dict[str, Any]]) -> None:
    first_kept(rows).update(colour_evidence=None, colour_scores=None)


def other_reason(rows: list[dict[str, Any]]) -> None:
    first_rejected(rows)["reason"] = "mean_channel_std_high"


def no_reason(rows: list[dict[str, Any]]) -> None:
    first_rejected(rows)["reason"] = None


def half_forgotten(rows: list[dict[str, Any]]) -> None:
    first_kept(rows).update(kept=False, rejected_by="forget", reason="forgotten")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_score, "colour_scores.mean_channel_std is"),
        (keep_a_grey_one, "kept; right would be: rejected by colour (mean_channel_std_low)"),
        (reject_a_good_one, "which it does not fail"),
        (forget_the_evidence, "kept, though colour never measured it"),
        (other_reason, "which it does not fail"),
        (no_reason, "rejected_by 'colour', reason None"),
        (half_forgotten, "its row still says what it was"),
        (lambda rows: rows.append(dict(first_kept(rows))), "kept twice in this ledger"),
        (lambda rows: rows.remove(first_rejected(rows)), "came in, but has no row"),
    ],
)
def test_a_lie_in_a_curated_ledger_is_found_though_every_hash_and_seal_is_right(
    run: Path, edit: Edit, message: str
) -> None:
    edit_rows(run / "curate", "00000.parquet", edit)
    assert any(message in fault for fault in named(verify(run, ALONE), "curate/00000.parquet"))


def swap_pictures(members: list[tuple[str, bytes]]) -> None:
    (first, one), (second, other) = members[0], members[3]
    members[0], members[3] = (first, other), (second, one)


def drop_a_sample(members: list[tuple[str, bytes]]) -> None:
    del members[:3]


def add_a_sample(members: list[tuple[str, bytes]]) -> None:
    members += sample_members("stranger", colourful(99))


def other_order(members: list[tuple[str, bytes]]) -> None:
    members.extend(members[:3])
    del members[:3]


def doubled_member(members: list[tuple[str, bytes]]) -> None:
    members.insert(1, members[0])


def stray_member(members: list[tuple[str, bytes]]) -> None:
    members.append((".DS_Store", b"x"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["fetch", "curate"])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (swap_pictures, "as the ledger says"),
        (drop_a_sample, "is not in the tar"),
        (add_a_sample, "which its ledger does not keep"),
        (other_order, "stand in another order"),
        (doubled_member, "duplicate_key"),
        (stray_member, "holds '.DS_Store', which is no sample's"),
    ],
)
def test_a_tar_that_is_not_what_its_ledger_keeps_is_found_though_its_hash_is_right(
    run: Path, stage: str, edit: Callable[[list[tuple[str, bytes]]], None], message: str
) -> None:
    edit_tar(run / stage, "00000.tar", edit)
    assert any(message in fault for fault in named(verify(run, ALONE), f"{stage}/00000.tar"))


def wrong_offset(rows: list[dict[str, Any]]) -> None:
    rows[1]["offset"] += 512


def packed_twice(rows: list[dict[str, Any]]) -> None:
    rows[1] = dict(rows[0])


def other_bytes(rows: list[dict[str, Any]]) -> None:
    rows[-1]["source_sha256"] = "0" * 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "edit", "where", "message"),
    [
        ("00000.parquet", wrong_offset, "pack/00000.tar", "where its picture's tar header stands"),
        ("index.parquet", wrong_offset, "pack/index.parquet", "not those of the shards"),
        ("index.parquet", packed_twice, "pack/index.parquet", "packed twice"),
        ("ledger.parquet", lambda rows: rows.pop(), "pack/ledger.parquet", "kept by curate in"),
        ("ledger.parquet", lambda rows: rows.pop(), "pack/manifest.json", "seen"),
        ("ledger.parquet", packed_twice, "pack/ledger.parquet", "not kept in"),
        ("ledger.parquet", packed_twice, "pack/ledger.parquet", "not those of the shards"),
        ("ledger.parquet", other_bytes, "pack/ledger.parquet", ", of curate"),
        ("index.parquet", lambda rows: rows.append(rows[0]), "pack/index.parquet", "not those of the shards"),
        ("index.parquet", lambda rows: rows.pop(), "pack/index.parquet", "not those of the shards"),
    ],
)
def test_index_and_ledger_of_pack_are_held_against_shards_and_curated_samples(
    run: Path, name: str, edit: Edit, where: str, message: str
) -> None:
    edit_rows(run / "pack", name, edit)
    assert any(message in fault for fault in named(verify(run, ALONE), where))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def without_reasons(path: Path) -> None:
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["rejected_by"]), path)


@pytest.mark.parametrize(("harm", "said"), [(cut, "cannot be read"), (without_reasons, "rejected_by missing")])
def test_a_ledger_that_nobody_can_look_into_is_named_and_not_taken_for_free_of_the_forgotten(
    run: Path, harm: Callable[[Path], None], said: str
) -> None:
    write_tombstones(run, Tombstones(uid=frozenset({"0" * 32})))
    harm(run / "pack" / "ledger.parquet")
    (fault,) = living_faults(run, stages_of(run), broken=())
    assert fault.file == "pack/ledger.parquet" and said in str(fault)
    record_again(run / "pack", "ledger.parquet")
    assert any("ledger" in fault for fault in named(verify(run, ALONE), "pack/ledger.parquet"))


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    manifest = read_sealed(folder / "manifest.json")
    edit(manifest)
    publish_sealed(folder / "manifest.json", manifest)


def without_a_shard(manifest: dict[str, Any]) -> None:
    manifest["shards"].pop()
    for name in ("num_seen", "num_kept"):
        manifest[name] = sum(shard[name] for shard in manifest["shards"])
    _, _, manifest["rejected"] = total([ShardReport(**{**shard, "files": {}}) for shard in manifest["shards"]], {})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "edit", "message"),
    [
        ("curate", lambda m: m.update(recipe_digest="0" * 64), "recipe_digest"),
        ("curate", lambda m: m["weights"].update(other="0" * 64), "which the recipe needs"),
        ("curate", lambda m: m["shards"][0].update(work_id="0" * 64), "work_id"),
        ("fetch", lambda m: m["shards"][1].update(work_id="0" * 64), "work_id"),
        ("pack", lambda m: m["shards"][0].update(work_id="0" * 64), "work_id"),
        ("rank", lambda m: m["extra"]["inputs"].update(laion={"a": "0" * 64}), "work_digest"),
        ("curate", lambda m: m.update(num_seen=m["num_seen"] + 1, num_kept=m["num_kept"] + 1), "the sum of its shards"),
        ("curate", lambda m: m.update(num_seen=m["num_seen"] + 1), "every sample is kept or rejected"),
        ("curate", lambda m: m["shards"].pop(), "the sum of its shards"),
        ("curate", without_a_shard, "no more and no less"),
    ],
)
def test_a_manifest_that_does_not_fit_what_it_names_is_found_though_its_seal_is_right(
    run: Path, stage: str, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit_manifest(run / stage, edit)
    assert any(message in fault for fault in named(verify(run, ALONE), f"{stage}/manifest.json"))


def test_a_selection_that_is_not_what_its_ledger_keeps_is_found(run: Path) -> None:
    table = pq.read_table(run / "rank" / "00001.parquet", partitioning=None)
    pq.write_table(table.slice(1), run / "rank" / "00001.parquet", compression="zstd", version="2.6")
    record_again(run / "rank", "00001.parquet")
    found = verify(run, ALONE)
    assert any("in no part" in fault for fault in named(found, "rank/ledger.parquet"))
    assert any("which never came in" in fault for fault in named(found, "fetch/00001.parquet"))


def kept_twice(rows: list[dict[str, Any]]) -> None:
    one, other = [row for row in rows if row["kept"]][:2]
    other["uid"] = one["uid"]


def no_verdict(rows: list[dict[str, Any]]) -> None:
    first_kept(rows)["rejected_by"] = "rank"


def same_key(rows: list[dict[str, Any]]) -> None:
    one, other = [row for row in rows if row["kept"]][:2]
    other["key"] = one["key"]


@pytest.mark.parametrize(
    ("name", "edit", "messages"),
    [
        ("ledger.parquet", kept_twice, {"kept twice", "as the ledger keeps it"}),
        ("ledger.parquet", no_verdict, {"kept, or rejected with a reason"}),
        ("ledger.parquet", same_key, {"stands twice", "as the ledger keeps it"}),
        ("ledger.parquet", lambda rows: rows.pop(), {"as recorded"}),
        ("00000.parquet", packed_twice, {"selected twice", "in no part"}),
    ],
)
def test_whatever_is_wrong_with_a_selection_is_found(run: Path, name: str, edit: Edit, messages: set[str]) -> None:
    path = run / "rank" / name
    table = pq.read_table(path, partitioning=None)
    rows = table.to_pylist()
    edit(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path, compression="zstd", version="2.6")
    record_again(run / "rank", name)
    faults = [str(fault) for fault in verify(run, ALONE).faults if fault.file.startswith("rank/")]
    assert all(any(message in fault for fault in faults) for message in messages), faults


def test_what_nobody_names_is_a_note_and_no_fault(run: Path) -> None:
    (run / "curate" / "_tmp").mkdir()
    (run / "curate" / "_tmp" / "00000.tar.abc").write_bytes(b"half")
    (run / "pack" / "00009.tar").write_bytes(b"orphan")
    found = verify(run, ALONE)
    assert found.ok
    assert [note.file for note in found.notes] == ["curate/_tmp/00000.tar.abc", "pack/00009.tar"]


def test_an_unfinished_stage_is_verified_by_its_done_records(run: Path) -> None:
    (run / "pack" / "manifest.json").unlink()
    found = verify(run, ALONE)
    assert found.ok and any("has not finished" in note.what for note in found.notes)
    flip_a_bit(run / "pack" / "00001.tar", random.Random(3))
    assert named(verify(run, ALONE), "pack/00001.tar")
    (run / "fetch" / "manifest.json").unlink()
    assert "missing" in named(verify(run, ALONE), "fetch/manifest.json")[0]


def test_the_uids_of_a_rotten_tar_are_named(run: Path) -> None:
    manifest = read_manifest(run / "curate")
    path = manifest.shards[0].file(run / "curate", ".tar")
    sample, member = next(iter(zip(read_samples(path), members_of(path), strict=False)))
    content = bytearray(path.read_bytes())
    content[member.offset + 512 + member.num_bytes // 2] ^= 4
    path.write_bytes(bytes(content))
    faults = [fault for fault in verify(run, ALONE).faults if fault.file == "curate/00000.tar"]
    assert {fault.uid for fault in faults} == {None, sample.key}
