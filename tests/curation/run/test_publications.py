"""What a run remembers of its publications: which still hold forgotten images, and what mends it."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.forget.stage import foresee, forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.tombstones import tombstones_of
from curation.run.publications import (
    PublishedPack,
    digest_of_pack,
    leave_record,
    publications_of,
    settle_record,
    still_published,
)
from curation.storage.publish import digest, publish_sealed
from tests.curation.whole_run import ALONE, url_of, write_run

PLACE = "https://hub.example/datasets/somebody/faces"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("published") / "run"
    write_run(run, 9)
    return run


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "run", symlinks=True)


def published(**changed: Any) -> PublishedPack:
    stated = {"form": "pixels", "rights": "drawn by the test", "date": "2026-11-30", "repo": "somebody/faces"}
    known: dict[str, Any] = {
        "endpoint": "https://hub.example", "repo": "somebody/faces", "pack": "pack", "card_sha256": "ab" * 32,
        "stated": stated, "is_public": True, "forgotten": (), "packed": "",
    }  # fmt: skip
    return PublishedPack(**known | changed)


def of_pack(run: Path, **changed: Any) -> PublishedPack:
    return published(packed=digest_of_pack(run / "pack"), **changed)


def packed(run: Path) -> list[str]:
    uids: list[str] = pq.read_table(run / "pack/index.parquet")["uid"].to_pylist()
    return uids


def test_what_is_packed_is_told_by_one_digest_of_every_uid_that_ever_was(run: Path) -> None:
    uids = {row["uid"] for path in (run / "pack").glob("0*.parquet") for row in read_ledger(path).to_pylist()}
    assert digest_of_pack(run / "pack") == digest(sorted(uids)) and len(uids) > 1


def test_forget_names_the_publication_that_holds_somebody_and_the_command_that_mends_it(run: Path) -> None:
    leave_record(run, of_pack(run))
    gone = packed(run)[0]
    requests = read_requests([gone], "a list")
    assert PLACE in foresee(run, requests)["not_reached"] and tombstones_of(run).uids == frozenset()
    _, receipt = forget(run, requests)
    told = receipt["not_reached"][PLACE]
    assert told.startswith("published, and holds 1 image that is forgotten; `facecaptionhq publish ")
    words = shlex.split(told.partition("`")[2].partition("`")[0])
    assert words[2:4] == [str(run / "pack"), "somebody/faces"] and "--without-history" in words and "--public" in words
    assert words[words.index("--rights") + 1] == "drawn by the test"
    (fault,) = verify(run, ALONE).faults
    assert PLACE in fault.wrong and fault.right in told
    again = CliRunner().invoke(app, ["forget", str(run), "--list", str(write(run.parent / "list", gone))])
    assert again.exit_code == 4 and f"{PLACE}: not reached" in again.stderr
    leave_record(run, renewed := of_pack(run, card_sha256="cd" * 32, forgotten=tuple(tombstones_of(run).uids)))
    assert list(still_published(run, tombstones_of(run).uids)), "what was there before is there until all is sent"
    settle_record(run, renewed)
    assert list(publications_of(run).values()) == [renewed] and verify(run, ALONE).faults == ()
    assert CliRunner().invoke(app, ["forget", str(run), "--list", str(run.parent / "list")]).exit_code == 0


def write(path: Path, line: str) -> Path:
    path.write_text(f"{line}\n")
    return path


def test_who_was_never_packed_is_in_no_publication_and_where_the_pack_is_gone_all_may_be(run: Path) -> None:
    leave_record(run, of_pack(run))
    assert not forget(run, read_requests([url_of(10)], "a list"))[1]["not_reached"], "below the cut"
    leave_record(run, published(repo="somebody/else", pack=str(run.parent / "gone"), card_sha256="ef" * 32))
    (left,) = still_published(run, tombstones_of(run).uids)
    assert left.place.endswith("somebody/else") and f"--run {run}" in left.mend


def tear(run: Path) -> None:
    (record,) = (run / "published").glob("*.json")
    record.write_bytes(record.read_bytes()[:-9])


def of_another_version(run: Path) -> None:
    (record,) = (run / "published").glob("*.json")
    publish_sealed(record, {"hub": "https://hub.example", "forgotten": []})


def lose_a_manifest(run: Path) -> None:
    (run / "pack" / "manifest.json").write_bytes(b"{")


def put_another_pack_there(run: Path) -> None:
    leave_record(run, published(packed="of what lay there when it was published"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (tear, "published/"),
        (of_another_version, "published/"),
        (put_another_pack_there, PLACE),
    ],
)
def test_whatever_is_wrong_with_a_record_stops_nobody_from_forgetting_and_is_named(
    run: Path, change: Any, named: str
) -> None:
    leave_record(run, of_pack(run))
    change(run)
    gone = url_of(10)  # below the cut: never packed as far as anybody can tell
    _, receipt = forget(run, read_requests([gone], "a list"))
    (place,) = receipt["not_reached"]
    assert place.startswith(named) and "--without-history" in receipt["not_reached"][place]
    assert len(tombstones_of(run).uids) == 1
    assert [fault.file.split("/")[0] for fault in verify(run, ALONE).faults] == ["published"]


def test_where_the_pack_cannot_be_read_all_may_be_published(run: Path) -> None:
    leave_record(run, of_pack(run))
    lose_a_manifest(run)
    (held,) = still_published(run, frozenset({"0" * 32, "1" * 32}))
    assert "2 images that are forgotten" in held.wrong
