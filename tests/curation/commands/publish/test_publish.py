import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from cli import app
from curation.commands.card.stage import write_card
from curation.commands.card.statements import stated
from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import pack
from curation.commands.publish import hub as hub_module
from curation.commands.publish.stage import Delivery, publish
from curation.commands.publish.there import AtTheHub, RunRecords, require_sendable
from curation.dataset.stages import CAPTION
from curation.dataset.tombstones import Tombstones, tombstones_of, write_tombstones
from curation.errors import SafetyError, StorageError, UsageError, VerificationError
from curation.run.publications import still_published
from curation.run.runner import ShardFailure
from curation.run.target import claimed, finish
from curation.storage.publish import sealed_bytes
from tests.curation.shards import colourful, recipe_from
from tests.curation.whole_run import ALONE, RECIPE, write_run
from tests.hub_server import NEVER, TOKEN, Fault, HubServer, Stored, hub
from tests.places import ROOT

DAY = "2026-11-30"
REPO = "somebody/faces"
RIGHTS = "drawn by the test itself"
BY_THE_OLD_NAME = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""How the hub's library hands a file to its client."""


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("publish")
    write_run(folder / "run")
    write_card(folder / "run", folder / "card", stated(date=DAY))
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "own", symlinks=True)


@pytest.mark.slow
def test_without_yes_nothing_is_sent_and_all_is_said(made: Path) -> None:
    result = call("publish", made / "run", REPO, "--card", made / "card", "--workers", 0)
    assert result.exit_code == 0, result.exception
    for told in ("form ids", "data/train.parquet", "4 files", "nothing was sent"):
        assert told in result.stdout
    assert ".tar" not in result.stdout


def test_pictures_are_not_passed_on_without_a_statement_of_rights(made: Path) -> None:
    for rights in ((), ("--rights", "  ")):
        refused = call("publish", made / "run", REPO, "--form", "pixels", *rights, "--workers", 0)
        assert isinstance(refused.exception, SafetyError) and "--rights" in str(refused.exception)
    told = call("publish", made / "run", REPO, "--form", "pixels", "--rights", RIGHTS, "--workers", 0).stdout
    assert "pixels/00000.tar" in told and RIGHTS in told


def forget_without_reaching(run: Path) -> None:
    uid = pq.read_table(run / "pack/index.parquet")["uid"][0].as_py()
    write_tombstones(run, Tombstones(uid=frozenset({uid})))


def forget_for_real(run: Path) -> None:
    forget(run, read_requests([pq.read_table(run / "pack/index.parquet")["uid"][0].as_py()], "a list"))


def tighten(run: Path) -> None:
    text = RECIPE.format(top=24, rows_per_part=10, num_shard_samples=4).replace("min = 2.0", "min = 53.0")
    decide(run, recipe_from(run.parent / "tighter", text), ALONE)


def touch_a_tar(run: Path) -> None:
    tar = run / "pack/00000.tar"
    content = bytearray(tar.read_bytes())
    content[600] ^= 1
    tar.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (forget_without_reaching, "was forgotten and is here all the same"),
        (forget_for_real, "card.json: state is"),
        (tighten, "superseded"),
        (touch_a_tar, "00000.tar"),
        (lambda run: (run / "curate").rename(run / "elsewhere"), "--run"),
        (lambda run: (run.parent / "card/README.md").write_text("# Ours\n"), "README.md line"),
    ],
)
def test_what_is_not_fit_is_refused_by_name(own: Path, change: object, named: str) -> None:
    assert callable(change)
    change(own / "run")
    refused = call("publish", own / "run/pack", REPO, "--card", own / "card", "--yes", "--workers", 0)
    assert isinstance(refused.exception, VerificationError), refused.exception
    assert named in str(refused.exception) and "nothing was sent" in str(refused.exception)


def test_a_card_speaks_for_itself_and_for_one_repository(made: Path, tmp_path: Path) -> None:
    twice = call("publish", made / "run", REPO, "--card", made / "card", "--form", "ids")
    assert isinstance(twice.exception, UsageError) and "leave out --form" in str(twice.exception)
    write_card(made / "run", tmp_path / "card", stated(date=DAY, repo="another/one"))
    other = call("publish", made / "run", REPO, "--card", tmp_path / "card")
    assert isinstance(other.exception, UsageError) and "another/one" in str(other.exception)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub at which this process may write."""
    from huggingface_hub import close_session, constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        yield server
        close_session()


def send(run: Path, form: str = "pixels", **delivery: object) -> str | None:
    statements = stated(form=form, date=DAY, repo=REPO, rights=RIGHTS)
    how = Delivery(hub=lambda repo: hub_module.Hub(repo, pause=lambda _: None), **delivery)  # type: ignore[arg-type]
    return publish(run, statements, delivery=how).commit


def contents(server: HubServer) -> dict[str, bytes]:
    return {path: stored.content for path, stored in server.repositories[REPO].head.items()}


PASSING = [
    Fault("POST /api/repos/create", 504),
    Fault("preupload", 429),
    Fault("PUT /lfs", 504),
    Fault("validate-yaml", 503),
    Fault("commit/", 412),
    Fault("commit/", 504, is_done_all_the_same=True),
    Fault("GET .*/tree/", 429),
]


@pytest.mark.slow
@BY_THE_OLD_NAME
@pytest.mark.parametrize("lfs_from", [1000, NEVER], ids=["lfs", "within-commits"])
def test_what_goes_wrong_for_a_while_changes_nothing(
    made: Path, serve: HubServer, lfs_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", lfs_from != NEVER)
    serve.lfs_from = lfs_from
    serve.faults = [Fault(**vars(fault)) for fault in PASSING if lfs_from != NEVER or "lfs" not in fault.pattern]
    assert send(made / "run") is not None
    assert [fault for fault in serve.faults if fault.times] == []
    tars = {f"pixels/{path.name}": path.read_bytes() for path in (made / "run/pack").glob("*.tar")}
    told = contents(serve)
    assert told.keys() == {*tars, "README.md", "card.json", "croissant.json", "data/train.parquet"}
    assert {path: told[path] for path in tars} == tars and RIGHTS in told["README.md"].decode()
    assert serve.repositories[REPO].is_private and serve.count("POST .*/commit/") <= 3
    assert "README.md" not in serve.repositories[REPO].commits[1]  # the card comes after what it speaks of
    num_commits = len(serve.repositories[REPO].commits)
    send(made / "run")
    assert len(serve.repositories[REPO].commits) == num_commits  # nothing is new


def card_of(repo: object = REPO, tombstones: tuple[tuple[str, int], ...] = (), takedowns: str | None = "then") -> bytes:
    numbers = [{"name": "tombstones", "value": list(tombstones)}]
    digest = {} if takedowns is None else {"takedowns": takedowns}
    return sealed_bytes({"stated": {"repo": repo, "date": DAY, "form": "ids"}, "numbers": numbers, **digest})


@pytest.mark.parametrize(
    ("card", "is_public", "names", "told"),
    [
        (None, False, ("README.md",), "holds README.md; README.md there is of no publication"),
        (None, False, ("data/train.parquet",), "name a new repository, or an empty one"),
        (b"{}", False, ("card.json",), "card.json there is of no publication"),
        (card_of()[:-2], False, ("card.json",), "of no publication"),
        (card_of("another/one"), False, ("card.json", "README.md"), "of no publication"),
        (card_of(None), False, ("card.json",), "of no publication"),
        (None, True, (".gitattributes",), "holds nothing; it is public.*type --public"),
        (card_of(), True, ("card.json",), "publication of 2026-11-30, form ids .card.json.; it is public"),
        (card_of(), False, ("card.json",), "other images are forgotten .* .2 more by uid.*--without-history"),
        (card_of(tombstones=(("uid", 2),)), False, ("card.json",), "other images .*not more of them.*--keep-history"),
        (card_of(takedowns=None), False, ("card.json",), "does not say which images were forgotten.*--keep-history"),
    ],
)
def test_what_lies_in_a_repository_is_said_with_what_to_type(
    card: bytes | None, is_public: bool, names: tuple[str, ...], told: str
) -> None:
    found = AtTheHub(REPO, is_public, dict.fromkeys(names), card)
    run = RunRecords({"tombstones": [["uid", 2]]}, "now", frozenset([found.card_sha256 or ""]))
    with pytest.raises(UsageError, match=f"(?s)^{REPO} is there already.*{told}") as refused:
        require_sendable(found, {}, {}, run)
    assert "Nothing was sent" in str(refused.value)
    if "of no publication" not in told and "name a new" not in told:
        require_sendable(found, {}, {}, run, may_be_public=True, is_history_settled=True)


def test_a_card_that_the_run_has_no_record_of_is_anothers_until_somebody_says_replace() -> None:
    found, run = AtTheHub(REPO, False, {"card.json": None}, card_of(takedowns="now")), RunRecords({}, "now")
    with pytest.raises(UsageError, match=r"no record of having published it.*type --replace"):
        require_sendable(found, {}, {}, run)
    require_sendable(found, {}, {}, run, may_replace=True)
    with pytest.raises(UsageError, match="type --replace"):
        require_sendable(found, {}, {}, run, is_history_settled=True)
    require_sendable(found, {}, {}, replace(run, own_cards=frozenset([str(found.card_sha256)])))


def test_ids_of_pictures_without_an_address_are_published_with_a_warning(tmp_path: Path) -> None:
    source, recipe = tmp_path / "photos", recipe_from(tmp_path)
    source.mkdir()
    for number in range(3):
        (source / f"{number}.jpg").write_bytes(colourful(number))
        (source / f"{number}.txt").write_text(f"A person with the number {number}.")
    curate(source, tmp_path / "run/curate", recipe, ALONE)
    pack(tmp_path / "run/curate", tmp_path / "run/pack", recipe, ALONE)
    with claimed(tmp_path / "run/caption", CAPTION, "work") as lease:  # of which every shard failed
        finish(
            tmp_path / "run/caption", CAPTION, recipe, "work", [ShardFailure("00000", "nobody answers")], lease=lease
        )
    told = call("publish", tmp_path / "run", REPO, "--workers", 0).stdout
    assert "WARNING: none of 3 samples has an address" in told and "--form pixels" in told
    pixels = call("publish", tmp_path / "run", REPO, "--workers", 0, "--form", "pixels", "--rights", RIGHTS).stdout
    assert "WARNING" not in pixels
    carded = call("card", tmp_path / "run", "--out", tmp_path / "card").stdout
    text = (tmp_path / "card/README.md").read_text()
    assert "WARNING: none of" in carded and "found on the web" not in text and "scraped" not in text
    assert "3 pictures of faces with captions, found in files that the publisher had" in text


def held_at(server: HubServer, run: Path) -> list[str]:
    """Return the publications there that hold somebody who is forgotten, as the run knows them."""
    held = still_published(run, tombstones_of(run).uids)
    return [one.place for one in held if one.place.startswith(server.address)]


@pytest.mark.slow
@BY_THE_OLD_NAME
def test_after_a_takedown_nothing_of_it_is_left_there(own: Path, serve: HubServer) -> None:
    send(own / "run")
    before = contents(serve)
    gone = pq.read_table(own / "run/pack/index.parquet").to_pylist()[0]
    _, receipt = forget(own / "run", read_requests([gone["uid"]], "a list"))
    assert held_at(serve, own / "run") == [f"{serve.address}/datasets/{REPO}"]
    assert f"{serve.address}/datasets/{REPO}" in receipt["not_reached"]
    repository = serve.repositories[REPO]
    with pytest.raises(UsageError, match=r"--without-history.*--keep-history"):
        send(own / "run")
    assert contents(serve) == before
    dies = Fault("commit/", 500, times=hub_module.NUM_ATTEMPTS)
    serve.on_request = lambda line: serve.faults.append(dies) if "squash" in line and not serve.faults else None
    with pytest.raises(StorageError):
        send(own / "run", without_history=True)
    (head,) = repository.commits
    assert gone["uid"].encode() in before[f"pixels/{gone['shard']}.tar"]
    assert not [path for path, stored in head.items() if gone["uid"].encode() in stored.content]
    with pytest.raises(UsageError, match="--without-history"):  # the card there is the old one still
        send(own / "run")
    send(own / "run", without_history=True)
    (head,) = repository.commits
    assert not [path for path, stored in head.items() if gone["uid"].encode() in stored.content]
    assert held_at(serve, own / "run") == []
    send(own / "run", form="ids")  # the takedown is counted by now
    assert not [path for path in contents(serve) if path.startswith("pixels/")]


@pytest.mark.slow
@BY_THE_OLD_NAME
def test_what_the_hub_refuses_is_said_once_without_the_token(
    made: Path, serve: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with pytest.raises(UsageError, match="hf auth login") as refused:
        send(made / "run", "ids")
    assert "hf_of_nobody" not in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    serve.faults = [Fault("commit/", 412, times=hub_module.NUM_ATTEMPTS)]
    with pytest.raises(StorageError, match="the same command goes on"):
        send(made / "run", "ids")
    repository = serve.repositories[REPO]
    for theirs in ("README.md", "data/two-years-of-work.parquet"):
        repository.commits.append({theirs: Stored(b"# Mine", is_lfs=False)})
        with pytest.raises(UsageError, match=f"holds {theirs}"):
            send(made / "run", "ids")
    repository.commits = [{"card.json": Stored(card_of(takedowns=None), is_lfs=False)}]
    with pytest.raises(UsageError, match="type --replace"):
        send(made / "run", "ids")
    repository.commits, repository.is_private = [{}], False
    with pytest.raises(UsageError, match="type --public"):
        send(made / "run", "ids")
    assert repository.commits == [{}] and send(made / "run", "ids", is_private=False)


def environment(server: HubServer, folder: Path) -> dict[str, str]:
    own = {"HF_ENDPOINT": server.address, "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "HF_TOKEN": TOKEN}
    paths = {"HF_HOME": str(folder / "hub"), "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1"}
    return {**os.environ, **own, **paths, "HF_HUB_DISABLE_TELEMETRY": "1"}


READ = f"""
import datasets
for name in (None, "default"):
    read = datasets.load_dataset({REPO!r}, name, split="train")
    print(read.num_rows, sorted(read.column_names)[:3])
"""


@pytest.mark.slow
def test_a_killed_upload_goes_on_and_datasets_reads_what_came(made: Path, tmp_path: Path) -> None:
    words = ["publish", made / "run", REPO, "--form", "pixels", "--rights", RIGHTS, "--date", DAY, "--yes"]
    command = [sys.executable, "-m", "cli", *map(str, words), "--workers", "0"]
    with hub() as server:
        variables = environment(server, tmp_path)
        first = subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        puts = itertools.count(1)

        def kill(line: str) -> None:
            if line.startswith("PUT /lfs/") and next(puts) == 4:  # its answer comes when nobody is there
                while len(server.objects) < 3:  # the others come side by side
                    time.sleep(0.01)
                first.kill()
                first.wait()

        server.on_request = kill
        first.communicate()
        assert first.returncode == -signal.SIGKILL and len(server.repositories[REPO].commits) == 1
        server.on_request = lambda _: None
        came = set(server.objects)  # the request that the kill cut off may come in later, and is none
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr
        told = contents(server)
        tars = {f"pixels/{path.name}": path.read_bytes() for path in (made / "run/pack").glob("*.tar")}
        assert {path: told[path] for path in tars} == tars and "card.json" in told
        again = [oid for oid in came if server.count(f"^PUT /lfs/{oid}") != 1]
        assert len(came) >= 3 and again == [], "none came twice"
        read = subprocess.run(
            [sys.executable, "-c", READ], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert read.stdout.splitlines() == ["18 ['__key__', '__url__', 'jpg']"] * 2, read.stderr
