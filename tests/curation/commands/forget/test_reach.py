"""Forgetting follows what was made from a run to wherever it lies, and says what it could not reach."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.curate.stage import curate
from curation.commands.forget.stage import foresee, forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.importing.convert import import_metadata
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.sample import uid_of_url
from curation.dataset.tar import write_tar
from curation.dataset.tombstones import Tombstones, tombstones_of, write_tombstones
from curation.errors import UsageError
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.derived import register
from curation.run.journal import Preparation, commit
from curation.storage.lease import hold
from tests.curation.commands.forget.test_stage import everything_said
from tests.curation.shards import bytes_of
from tests.curation.whole_run import ALONE, caption_of, picture, url_of, write_run

NUMBER, OTHER = 0, 3
UID, OTHER_UID = uid_of_url(url_of(NUMBER)), uid_of_url(url_of(OTHER))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, two more packs of it, a cache, a folder of scans; what is in `loose` no card tells of."""
    world = tmp_path_factory.mktemp("world")
    recipe = write_run(world / "run", num_images=6, num_shard_samples=4)
    for pack_folder in (world / "run" / "pack2", world / "far" / "packed"):
        pack(world / "run" / "curate", pack_folder, recipe, ALONE)
    cache, scans, loose = world / "far" / "cache", world / "train" / "scans", world / "loose"
    members = [
        (f"{uid}.{variant}.{'ab' * 8}.npy", b"vector of " + uid.encode())
        for uid in sorted((UID, OTHER_UID))
        for variant in (0, 1)
    ]
    for folder in (cache / "identities-1", scans, loose):
        folder.mkdir(parents=True)
    write_tar(cache / "identities-1" / "00000.tar", members)
    pq.write_table(pa.table({"key": [UID, OTHER_UID]}), scans / "scan.parquet")
    pq.write_table(pa.table({"key": [OTHER_UID]}), scans / "other.parquet")
    register(world / "far" / "packed", cache, "cache", "")
    register(world / "run" / "pack2", scans, "work", "")
    pq.write_table(pa.table({"n": [1, 2], "url": [url_of(NUMBER), url_of(OTHER)]}), loose / "export.parquet")
    write_tar(
        loose / "copy.tar", [("a.json", json.dumps({"url": url_of(NUMBER)}).encode()), ("a.txt", b"x"), ("b.txt", b"y")]
    )
    return world.rename(world.with_name("moved"))


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Iterator[Path]:
    """The same at another place: cards know the way from one folder to the other."""
    shutil.copytree(made, tmp_path / "world")
    yield tmp_path / "world"


def recipe_of(world: Path) -> Recipe:
    return load_recipe(world / "run-input" / "recipe.toml")


def secrets() -> list[str]:
    return [url_of(NUMBER), caption_of(NUMBER), f"alt text of number {NUMBER:06d}", f"vector of {UID}"]


def left_in(*folders: Path) -> list[str]:
    said = "".join(everything_said(folder) for folder in folders)
    return [secret for secret in secrets() if secret in said]


@pytest.mark.slow
def test_nothing_is_left_in_any_derived_place_and_the_receipt_names_them_all(world: Path) -> None:
    run, far = world / "run", world / "far"
    assert left_in(run / "pack2") and left_in(far / "packed") and left_in(far / "cache")
    foreseen = foresee(run, read_requests([url_of(NUMBER)], "list"))
    assert [*foreseen["places"].values()] == [1, 1]
    assert sorted(file for files in foreseen["copies"].values() for file in files) == [
        "identities-1/00000.tar",
        "scan.parquet",
    ]
    _, receipt = forget(run, read_requests([url_of(NUMBER)], "list"))
    assert left_in(run, far, world / "train") == []
    places = {str(path) for path in (run / "pack2", far / "packed", far / "cache", world / "train" / "scans")}
    assert places <= set(receipt["searched"]) and receipt["not_reached"] == {}
    assert {Path(one["folder"], one["file"]) for one in receipt["elsewhere"]} >= {
        far / "packed" / "00000.tar",
        far / "cache" / "identities-1" / "00000.tar",
        world / "train" / "scans" / "scan.parquet",
    }
    assert not (world / "train" / "scans" / "scan.parquet").exists()
    assert (world / "train" / "scans" / "other.parquet").exists()
    assert f"vector of {OTHER_UID}" in everything_said(far / "cache")
    assert {row["uid"] for row in read_ledger(far / "packed" / "index.parquet").to_pylist()} == {
        row["uid"] for row in read_ledger(run / "pack" / "index.parquet").to_pylist()
    }
    for folder in (run, far / "packed"):
        assert verify(folder, ALONE).faults == ()
    assert tombstones_of(far).names(url_of(NUMBER))


def test_packing_again_elsewhere_readmits_nothing_and_is_the_same_pack(world: Path) -> None:
    forget(world / "run", read_requests([url_of(NUMBER)], "list"))
    left = bytes_of(world / "far" / "packed")
    pack(world / "run" / "curate", world / "far" / "packed", recipe_of(world), ALONE)
    assert bytes_of(world / "far" / "packed") == left
    pack(world / "run" / "curate", world / "new" / "pack", recipe_of(world), ALONE)
    assert left_in(world / "new") == []


@pytest.mark.slow
def test_what_cannot_be_reached_is_named_and_the_exit_code_says_so(world: Path) -> None:
    run, listed = world / "run", world / "list.txt"
    listed.write_text(url_of(NUMBER))
    shutil.move(world / "far" / "cache", world / "hidden")
    with hold(world / "far" / "packed"):
        done = CliRunner().invoke(app, ["forget", str(run), "--list", str(listed)])
    assert done.exit_code == 4
    assert f"{world / 'far' / 'packed'}: not reached:" in done.stderr
    assert "far/cache: not reached: not there" in done.stderr
    assert left_in(run) == [] and left_in(world / "far" / "packed")
    wrong = [fault for fault in verify(run, ALONE).faults if str(world / "far" / "packed") in fault.file]
    assert any("here all the same" in fault.wrong for fault in wrong)
    shutil.move(world / "hidden", world / "far" / "cache")
    assert any("far/cache" in fault.file for fault in verify(run, ALONE).faults)
    again = CliRunner().invoke(app, ["forget", str(run), "--list", str(listed)])
    assert (again.exit_code, again.stderr) == (0, "")
    assert left_in(run, world / "far") == [] and verify(run, ALONE).ok


@pytest.mark.slow
def test_two_takedowns_that_reach_into_one_folder_do_not_undo_each_other(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other, far = world / "run", world / "other", world / "far"
    shutil.copytree(run, other)
    for folder in ("curate/_derived", "pack/_derived", "pack2"):
        shutil.rmtree(other / folder, ignore_errors=True)
    pack(other / "curate", far / "second", recipe_of(world), ALONE)
    requests = read_requests([url_of(NUMBER)], "list")
    missed: list[dict[str, str]] = []

    def commit_late(preparation: Preparation, receipt: dict[str, Any]) -> None:
        """Let the other takedown come when all is prepared, and end as if the machine did once a journal counts."""
        monkeypatch.setattr("curation.commands.forget.stage.commit", commit)
        missed.append(forget(other, requests)[1]["not_reached"])
        commit(preparation, receipt)
        raise KeyboardInterrupt

    monkeypatch.setattr("curation.commands.forget.stage.commit", commit_late)
    with pytest.raises(KeyboardInterrupt):
        forget(run, requests)
    assert [*missed[0]] == [str(far / "second")] and "another run" in missed[0][str(far / "second")]
    with pytest.raises(UsageError, match="a `forget` was interrupted here"):
        pack(run / "curate", far / "packed", recipe_of(world), ALONE)
    for whole in (other, run):
        assert forget(whole, requests)[1]["not_reached"] == {}
    assert left_in(run, other, far) == []
    assert [verify(folder, ALONE).faults for folder in (run, other, far / "packed", far / "second")] == [()] * 4


def test_folders_that_no_card_tells_of_are_named(world: Path) -> None:
    run, loose = world / "run", world / "loose"
    (loose / "notes.csv").write_text(f"1,{url_of(NUMBER)}\n")
    (loose / "old.gz").write_bytes(b"\x1f\x8b")
    shutil.copytree(run / "pack", world / "copied" / "pack")
    requests = read_requests([url_of(NUMBER)], "list")
    _, receipt = forget(run, requests, [loose, world / "copied"])
    assert {Path(file).name for file in receipt["not_reached"]} == {"notes.csv", "old.gz"}
    (loose / "notes.csv").unlink()
    assert left_in(loose, world / "copied") == []
    assert pq.read_table(loose / "export.parquet").to_pylist() == [{"n": 2, "url": url_of(OTHER)}]
    assert verify(world / "copied", ALONE).ok
    with pytest.raises(UsageError, match="no such folder"):
        forget(run, requests, [world / "nowhere"])


def test_a_named_folder_loses_its_loose_pictures_and_the_rows_of_its_tables_whatever_their_columns_are(
    world: Path,
) -> None:
    run, loose, mine, other = world / "run", world / "loose", picture(NUMBER), picture(OTHER)
    shutil.rmtree(loose)
    for name, content in {
        f"{UID}.jpg": b"smaller", f"{UID}_1.txt": b"said of it", f"{OTHER_UID}.jpg": b"another",
        "deep/face1.jpg": mine, "deep/face1.txt": b"said of it", "deep/face2.jpg": other, "deep/face2.txt": b"stays",
    }.items():  # fmt: skip
        (loose / name).parent.mkdir(parents=True, exist_ok=True)
        (loose / name).write_bytes(content)
    uids, urls = (UID, OTHER_UID), (url_of(NUMBER), url_of(OTHER))
    bytes_struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns = {
        "struct": pa.array([{"bytes": mine, "path": "a"}, {"bytes": other, "path": "b"}], bytes_struct),
        "binary": pa.array([mine, other], pa.large_binary()),
        "dictionary": pa.array(uids).dictionary_encode(),
        "list": pa.array([["x", uid] for uid in uids], pa.list_(pa.string())),
        "fixed_list": pa.array([[uid] for uid in uids], pa.list_(pa.string(), 1)),
        "map": pa.array([[(uid, 1)] for uid in uids], pa.map_(pa.string(), pa.int64())),
        "list_of_pictures": pa.array([[{"bytes": one, "path": None}] for one in (mine, other)], pa.list_(bytes_struct)),
        "raw_uid": pa.array([bytes.fromhex(uid) for uid in uids], pa.binary(16)),
        "json": pa.array([json.dumps({"url": url, "n": 1}) for url in urls]),
        "view": pa.array(urls, pa.string_view()),
    }
    for name, column in columns.items():
        pq.write_table(
            pa.table({"n": [1, 2, 3], name: pa.concat_arrays([column, pa.nulls(1, column.type)])}),
            loose / f"{name}.parquet",
        )
    pq.write_table(pa.table({"vector": [[0.5, 1.0]]}), loose / "numbers.parquet")
    with pa.ipc.new_stream(str(loose / "saved.arrow"), pa.schema({"image": bytes_struct})) as stream:
        stream.write_table(pa.table({"image": columns["struct"]}))
    (loose / "packed.bin").write_bytes(gzip.compress(mine))
    before, requests = bytes_below(loose), read_requests([UID], "list")
    _, receipt = forget(run, requests, [loose])
    assert {Path(file).name for file in receipt["not_reached"]} == {"saved.arrow", "packed.bin"}
    gone = {name for name in before if not (loose / name).exists()}
    assert gone == {f"{UID}.jpg", f"{UID}_1.txt", "deep/face1.jpg", "deep/face1.txt"}
    for name in columns:
        assert pq.read_table(loose / f"{name}.parquet")["n"].to_pylist() == [2, 3], name
    changed = {name for name, content in bytes_below(loose).items() if content != before[name]}
    assert changed == {f"{name}.parquet" for name in columns}


@pytest.mark.slow
def test_links_out_of_a_named_folder_are_named_and_what_lies_behind_them_stays_until_it_is_named_too(
    world: Path,
) -> None:
    run, loose, away = world / "run", world / "loose", world / "away"
    away.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (away / name).write_bytes(picture(NUMBER))
    for link, end in {"folder": away, "file.jpg": away / "a.jpg", "gone": world / "gone", "loop": loose / "loop",
                      "here": loose, "run": run / "curate"}.items():  # fmt: skip
        (loose / link).symlink_to(end)
    requests = read_requests([url_of(NUMBER)], "list")
    named = {str(loose / link) for link in ("folder", "gone")}
    assert named == foresee(run, requests, [loose])["not_reached"].keys()
    left = forget(run, requests, [loose])[1]["not_reached"]
    assert {*left} == named | {str(loose / "file.jpg")}
    assert str(away / "a.jpg") in left[str(loose / "file.jpg")] and len([*away.iterdir()]) == 2
    assert {*forget(run, requests, [loose, away])[1]["not_reached"]} == {str(loose / "gone")}
    assert not [*away.iterdir()]


def test_a_table_whose_footer_tells_too_is_named_after_its_rows_are_gone(world: Path) -> None:
    table = pa.table({"uid": [UID, OTHER_UID]}).replace_schema_metadata({"first": UID})
    pq.write_table(table, world / "loose" / "told.parquet")
    _, receipt = forget(world / "run", read_requests([UID], "list"), [world / "loose"])
    assert [Path(file).name for file in receipt["not_reached"]] == ["told.parquet"]
    assert pq.read_table(world / "loose" / "told.parquet")["uid"].to_pylist() == [OTHER_UID]


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_derived_pack_that_is_rotten_does_not_keep_the_run_from_forgetting(world: Path) -> None:
    tar = world / "far" / "packed" / "00000.tar"
    tar.write_bytes(tar.read_bytes()[:-1024])
    _, receipt = forget(world / "run", read_requests([url_of(NUMBER)], "list"))
    assert left_in(world / "run") == []
    assert "not the bytes" in receipt["not_reached"][str(world / "far" / "packed")]
    assert verify(world / "far" / "packed", ALONE).faults


@pytest.mark.slow
def test_what_was_curated_from_one_tar_of_a_stage_or_from_links_to_its_tars_is_reached_too(world: Path) -> None:
    run, linked = world / "run", world / "linked"
    linked.mkdir()
    for number, tar in enumerate(sorted((run / "pack").glob("*.tar"))):
        (linked / f"{9 - number:05d}.tar").symlink_to(tar)
    (world / "again.tar").symlink_to(linked / "00009.tar")
    made = [world / "one" / "curate", world / "many" / "curate", world / "far" / "third"]
    for source, target in zip((run / "fetch" / "00000.tar", linked, world / "again.tar"), made, strict=True):
        curate(source, target, recipe_of(world), ALONE)
        assert left_in(target)
    _, receipt = forget(run, read_requests([url_of(NUMBER)], "list"))
    assert left_in(*made) == [] and receipt["not_reached"] == {}
    assert {str(folder) for folder in made} <= set(receipt["searched"])
    for folder in made:
        assert verify(folder, ALONE).faults == ()
    curate(run / "fetch" / "00000.tar", made[0], recipe_of(world), ALONE)


def test_a_link_to_a_tar_of_a_run_brings_nothing_back_that_the_run_forgot(world: Path) -> None:
    write_tombstones(world / "run", Tombstones(uid=frozenset({UID})))
    (world / "again.tar").symlink_to(world / "run" / "fetch" / "00000.tar")
    curate(world / "again.tar", world / "new" / "curate", recipe_of(world), ALONE)
    assert left_in(world / "new") == []


@pytest.mark.parametrize("of", ["fetch", "pack", "fetch/00000.tar"])
def test_metadata_that_were_imported_from_a_stage_s_tars_are_named_by_who_forgets(
    of: str, world: Path, tmp_path: Path
) -> None:
    import_metadata(str(world / "run" / of), tmp_path / "imported.parquet")
    assert url_of(NUMBER) in pq.read_table(tmp_path / "imported.parquet")["URL"].to_pylist()
    _, receipt = forget(world / "run", read_requests([UID], "a list"))
    assert "`facecaptionhq import`" in receipt["not_reached"][str(tmp_path / "imported.parquet")]
