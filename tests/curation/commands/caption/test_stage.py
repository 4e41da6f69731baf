"""A model's captions: asked once for each picture, stored beside, chosen by a rule, gone when the picture is."""

import itertools
import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.caption.arrived import files_of
from curation.commands.caption.endpoint import KEY_VARIABLE
from curation.commands.caption.stage import caption
from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import CAPTIONS_FROM, pack
from curation.commands.report.write import write_report
from curation.commands.status.stage import status
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.commands.why.text import tell
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, read_manifest
from curation.dataset.tar import read_samples
from curation.dataset.tombstones import Tombstones, tombstones_of, write_tombstones
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from curation.storage.paths import resolved
from curation.storage.publish import digest
from tests.curation.commands.caption.model_server import (
    DRIPPING,
    LATE,
    Behaviour,
    ModelServer,
    address_of,
    completion,
    good,
    model_server,
)
from tests.curation.killing import killing
from tests.curation.shards import RECIPE as RECIPES
from tests.curation.shards import bytes_of, colourful, recipe_from, sample_members, write_shard

ALONE = Spread(num_workers=0)
RECIPE = RECIPES.replace("[pack]", "[curate]\nisolate = false\n[pack]")
CAPTION = """
[caption]
model = "tiny"
revision = "r1"
prompt = "Describe the picture in one sentence."
retry_wait_s = 0
%s
"""
SEVEN = 7


def recipe_with(folder: Path, more: str = "", checks: str = "") -> Recipe:
    return recipe_from(folder / more.replace("\n", " ").replace('"', "")[:60], RECIPE + CAPTION % more + checks)


def write_curated(run: Path, num: int = SEVEN) -> Recipe:
    """Curate two shards, of which one picture has no caption of its own."""
    recipe = recipe_with(run.parent / "recipes")
    samples = [sample_members(f"{i:05d}", colourful(i)) for i in range(num)]
    samples[3] = samples[3] if num > SEVEN else samples[3][:2]
    write_shard(run / "in", "00000", samples[:4])
    write_shard(run / "in", "00001", samples[4:])
    curate(run / "in", run / "curate", recipe, ALONE)
    return recipe


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated")
    write_curated(folder / "run")
    return folder / "run"


@pytest.fixture
def run(curated: Path, tmp_path: Path) -> Path:
    shutil.copytree(curated, tmp_path / "run")
    return tmp_path / "run"


def told_by(server: ModelServer, run: Path, recipe: Recipe) -> list[dict[str, Any]]:
    manifest = caption(run / "curate", recipe, ALONE, endpoint=address_of(server))
    assert not manifest.failed, manifest.failed
    return rows_of(run / "caption")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    reports = read_manifest(folder).shards
    return [row for report in reports for row in read_ledger(report.file(folder, ".parquet")).to_pylist()]


def packed_of(folder: Path) -> dict[str, Mapping[str, Any]]:
    tars = [report.file(folder, ".tar") for report in read_manifest(folder).shards]
    return {sample.key: sample.metadata for tar in tars for sample in read_samples(tar)}


def test_every_picture_is_asked_about_once_and_the_reply_lies_beside_what_came(run: Path, tmp_path: Path) -> None:
    recipe, before = recipe_with(tmp_path / "recipes"), bytes_of(run / "curate")
    with model_server() as server:
        rows = told_by(server, run, recipe)
        assert told_by(server, run, recipe) == rows
        assert sorted(server.asked.values()) == [1] * SEVEN
        text, picture = server.bodies[0]["messages"][0]["content"]
    assert server.cookies == [None] * SEVEN
    assert text == {"type": "text", "text": "Describe the picture in one sentence."}
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert "example.org" not in json.dumps(server.bodies) and "caption of" not in json.dumps(server.bodies)
    assert bytes_of(run / "curate") == before
    assert all(row["kept"] and row["has_caption"] and row["num_requests"] == 1 for row in rows)
    assert {(row["caption_model"], row["caption_revision"], row["answered_by"]) for row in rows} == {
        ("tiny", "r1", "tiny-served")
    }
    assert [len(row["caption_prompt_sha256"]) for row in rows] == [64] * SEVEN and rows[0]["caption_time"].endswith("Z")
    curated = [row["uid"] for row in rows_of(run / "curate") if row["kept"]]
    assert [row["uid"] for row in rows] == curated
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert verify(run, ALONE).faults == ()
    assert [(stage.stage, stage.state) for stage in status(run)][1] == ("caption", "finished")
    page = write_report(run).read_text()
    assert "packed" in page and verify(run, ALONE).faults == ()
    story = tell(why(run, rows[0]["uid"])[0])
    assert "caption, shard 00000: kept" in story and "from model" in story


HOUSE = "in front of the wall of a house with a smile"
BAD_REPLIES: list[tuple[Behaviour, str | None, int]] = [
    (good, None, 1),
    (lambda n, before: 503 if before == 0 else good(n, 0), None, 2),
    (lambda n, before: 429 if before < 2 else good(n, 0), None, 3),
    (lambda n, before: 500, "http_5xx", 3),
    (lambda n, before: 400, "http_400", 1),
    (lambda n, before: completion(good(n, 0), times=2), "bad_answer", 1),
    (lambda n, before: completion(good(n, 0)) * 2, "bad_answer", 1),
    (lambda n, before: b"\x00\xff<html>", "bad_answer", 1),
    (lambda n, before: completion([{"type": "text", "text": good(n, 0)}]), "bad_answer", 1),
    (lambda n, before: b"[" * 100_000, "bad_answer", 1),
    (lambda n, before: b" " * (5 << 20), "answer_too_large", 1),
    (lambda n, before: "word and the thing " * 11_000, "too_long", 1),
    (lambda n, before: f"A man in a hat \x1b[2J stands {HOUSE}.", "control_characters", 1),
    (lambda n, before: f"A man in a hat \u202eevil\u202c stands {HOUSE}.", "control_characters", 1),
    (lambda n, before: f"A man in a hat and \ud800 stands {HOUSE}.", None, 1),
    (lambda n, before: "I'm sorry, but I can't help with identifying people in the image.", "refusal", 1),
    (lambda n, before: completion(good(n, 0), finish="length"), "cut_off", 1),
    (lambda n, before: " \n", "empty", 1),
    (lambda n, before: f'{{"caption": "A man stands {HOUSE}."}}', "markup", 1),
    (lambda n, before: f"A black-and-white portrait of a man who stands {HOUSE}.", "contradicts_colour", 1),
    (lambda n, before: f"Here two people stand {HOUSE} on {n}.", None, 1),
]


def test_whatever_comes_back_has_its_reason_and_nothing_is_lost(tmp_path: Path) -> None:
    """Each picture is answered in a way of its own; where no filter counted faces, nothing says how many there are."""
    recipe = recipe_with(tmp_path / "recipes", "max_failed = 12\nnum_requests = 1")
    write_curated(tmp_path / "run", len(BAD_REPLIES))
    run = tmp_path / "run"
    with model_server(lambda n, before: BAD_REPLIES[n][0](n, before)) as server:
        rows = told_by(server, run, recipe)
    assert [(row["reason"], row["num_requests"]) for row in rows] == [(why, num) for _, why, num in BAD_REPLIES]
    assert all(row["reply"] is None or len(row["reply"]) <= 8192 for row in rows)
    assert [row["num_reply_characters"] for row in rows][11] == 19 * 11_000
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert verify(run, ALONE).faults == ()
    assert {row["caption_source"] for row in packed_of(run / "pack").values()} == {"text"}


def test_an_answer_that_comes_too_late_is_nobodys(run: Path, tmp_path: Path) -> None:
    def late_at_first(number: int, before: int) -> Any:
        if (number, before) == (2, 0):
            return DRIPPING
        return (LATE, f"The late answer stands {HOUSE}.") if (number, before) in {(1, 0), (4, 0)} else good(number, 0)

    recipe = recipe_with(tmp_path / "recipes", "timeout_s = 1.0\nnum_retries = 10\nmax_retry_fraction = 10.0")
    with model_server(late_at_first) as server:
        rows = told_by(server, run, recipe)
        assert not server.num_dripped_to_the_end, "whoever sends a byte now and then is late, too"
    assert all(row["kept"] and "late" not in row["reply"] for row in rows)
    assert len({row["reply"] for row in rows}) == SEVEN and sum(row["num_requests"] > 1 for row in rows) >= 3


def test_a_server_that_is_at_fault_fails_shards_and_spends_no_more_than_the_budget(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes", "max_failed = 0\nmax_retry_fraction = 0.0\nnum_requests = 1")
    with model_server(lambda n, before: 503) as server:
        manifest = caption(run / "curate", recipe, ALONE, endpoint=address_of(server))
        assert "stayed without a reply (first: http_5xx)" in manifest.failed["00000"]
        assert len(server.bodies) <= SEVEN + 2 * 10
        assert len(server.asked) < SEVEN, "no more is asked once too many have failed"
    with model_server(lambda n, before: 404) as server:
        manifest = caption(run / "curate", recipe, ALONE, endpoint=address_of(server))
        assert "look at the address, at caption.model 'tiny'" in manifest.failed["00000"]
    verified = verify(run, ALONE)
    assert verified.ok and verified.unfinished == ("caption",), "what it was to add to is whole without it"
    assert "the same command again asks only for what failed" in str(verified.notes[0])
    with pytest.raises(UsageError, match="caption"):
        pack(run / "curate", run / "pack", recipe, ALONE)
    with model_server() as server:
        assert not caption(run / "curate", recipe, ALONE, endpoint=address_of(server)).failed
        assert sorted(server.asked.values()) == [1] * SEVEN


def test_other_checks_and_another_verdict_ask_nobody_again(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes")
    with model_server() as server:
        told_by(server, run, recipe)
        strict = recipe_with(tmp_path / "other", checks="[caption.checks]\nmax_words = 6\n")
        assert {row["reason"] for row in told_by(server, run, strict)} == {"too_long"}
        with pytest.raises(UsageError, match="other checks"):
            pack(run / "curate", run / "pack", recipe, ALONE)
        median = sorted(row["colour_scores"]["mean_channel_std"] for row in rows_of(run / "curate"))[3]
        tighter = recipe_from(tmp_path / "tight", (RECIPE + CAPTION % "").replace("min = 2.0", f"min = {median}"))
        decide(run / "curate", tighter, ALONE)
        rows = told_by(server, run, tighter)
        assert 0 < len(rows) < SEVEN and len(server.bodies) == SEVEN
        decide(run / "curate", recipe, ALONE)
        assert len(told_by(server, run, recipe)) == SEVEN  # what came back was let go of: it is asked anew
        assert len(server.bodies) == SEVEN + SEVEN - len(rows)
        with pytest.raises(UsageError, match="another question"):
            caption(
                run / "curate", recipe_with(tmp_path / "x", "temperature = 0.5"), ALONE, endpoint=address_of(server)
            )


@pytest.mark.slow
@pytest.mark.parametrize("prefer", ["old", "new", "better"])
def test_pack_chooses_by_the_rule_and_says_where_a_caption_comes_from(run: Path, tmp_path: Path, prefer: str) -> None:
    recipe = recipe_with(tmp_path / "recipes", f'prefer = "{prefer}"')

    def some(number: int, _: int) -> str:
        return good(number, 0) if number % 2 else "Too short."

    with model_server(some) as server:
        told = {row["uid"]: row for row in told_by(server, run, recipe)}
    pack(run / "curate", run / "pack", recipe, ALONE)
    packed = packed_of(run / "pack")
    index = {row["uid"]: row for row in read_ledger(run / "pack" / "index.parquet").to_pylist()}
    assert sum(row["kept"] for row in told.values()) == 3
    for uid, fields in packed.items():
        has_old = any(text.startswith("caption of") for text in fields["captions"])
        is_new = told[uid]["kept"] and (prefer != "old" or not has_old)
        assert (fields["caption_source"] == "model") == is_new
        assert fields["caption_model"] == ("tiny" if is_new else "")
        assert index[uid]["caption_time"] == (told[uid]["caption_time"] if is_new else None)
        assert (told[uid]["reply"] in fields["captions"]) == told[uid]["kept"]
    assert len(packed) == (SEVEN if told[lacking(run)]["kept"] else SEVEN - 1)
    assert verify(run, ALONE).faults == ()


def test_a_new_caption_is_taken_where_the_recipe_finds_no_old_one_fit_unless_too_many_share_it(
    run: Path, tmp_path: Path
) -> None:
    """Old captions have three words; one picture has none, and one gets a reply that is not fit."""
    recipe = recipe_with(tmp_path / "recipes", checks="[captions]\nmin_words = 4\nmax_repeats = 2\n")
    replies = ["I cannot help with that.", *["A man in a hat stands in front of the wall."] * 3]
    shared = dict(enumerate(replies))
    curate(run / "in", run / "curate-2", recipe, ALONE)
    shutil.rmtree(run / "curate")
    (run / "curate-2").rename(run / "curate")
    with model_server(lambda n, before: shared.get(n, good(n, before))) as server:
        told = {row["uid"]: row for row in told_by(server, run, recipe)}
    pack(run / "curate", run / "pack", recipe, ALONE)
    reasons = {row["uid"]: row["reason"] for row in read_ledger(run / "pack" / "ledger.parquet").to_pylist()}
    for uid, row in told.items():
        wanted = "caption_short" if row["reason"] == "refusal" else None
        assert reasons[uid] == ("caption_repeated" if row["reply"] == replies[1] else wanted)
    assert {fields["caption_source"] for fields in packed_of(run / "pack").values()} == {"model"}
    assert verify(run, ALONE).faults == ()


def lacking(run: Path) -> str:
    """Return the uid of the picture that came without a caption."""
    return next(str(row["uid"]) for row in rows_of(run / "curate") if row["kept"] and not row["num_captions"])


def test_a_forgotten_picture_leaves_no_word_of_its_reply_and_is_never_shown(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes", 'prefer = "new"')
    with model_server() as server:
        rows = told_by(server, run, recipe)
        pack(run / "curate", run / "pack", recipe, ALONE)
        gone, reply = lacking(run), {row["uid"]: row["reply"] for row in rows}[lacking(run)]
        others = {uid: fields for uid, fields in packed_of(run / "pack").items() if uid != gone}
        assert len(others) == SEVEN - 1
        names = sorted(path.name for path in (run / "pack").glob("*.tar"))
        forget(run, read_requests([gone], "the test"))
        assert verify(run, ALONE).faults == ()
        assert packed_of(run / "pack") == others
        assert sorted(path.name for path in (run / "pack").glob("*.tar")) == names
        told = {row["uid"]: row for row in rows_of(run / "caption")}
        assert (told[gone]["reply"], told[gone]["rejected_by"], told[gone]["caption_time"]) == (None, "forget", None)
        assert not any(reply.encode() in path.read_bytes() for path in run.rglob("*") if path.is_file())
        pack(run / "curate", run / "pack", recipe, ALONE)
        assert packed_of(run / "pack") == others
        shutil.rmtree(run / "caption")
        server.asked.clear()
        stones = tombstones_of(run)
        write_tombstones(run, stones | Tombstones(uid=frozenset({next(iter(others))})))
        rows = told_by(server, run, recipe)
        assert len(server.asked) == SEVEN - 2 and [row["reason"] for row in rows].count("forgotten") == 1


def test_verify_finds_a_reply_that_was_changed_or_lost(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes")
    with model_server() as server:
        told_by(server, run, recipe)
    path = run / "caption" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert [fault.file for fault in verify(run, ALONE).faults] == ["caption/00001.parquet"]


def test_a_shard_whose_record_or_ledger_is_torn_is_not_asked_about_again_in_silence(run: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tmp_path / "recipes")
    with model_server() as server:
        told_by(server, run, recipe)
        forget(run, read_requests([lacking(run)], "the test"))
        other = recipe_with(tmp_path / "recipes", checks="[caption.checks]\nmin_words = 3\n")
        num_asked = len(server.bodies)
        for name in ("00000_stats.json", "00000.parquet"):
            path = run / "caption" / name
            whole = path.read_bytes()
            path.write_bytes(whole[:-9])
            manifest = caption(run / "curate", other, ALONE, endpoint=address_of(server))
            assert name in manifest.failed["00000"] and "put it back from a copy" in manifest.failed["00000"]
            assert len(server.bodies) == num_asked
            path.write_bytes(whole)
        told = {row["uid"]: row for row in told_by(server, run, other)}
        assert told[lacking_in(told)]["has_caption"] and len(server.bodies) == num_asked


def lacking_in(told: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the uid of the picture that was forgotten."""
    return next(uid for uid, row in told.items() if row["rejected_by"] == "forget")


def test_the_command_says_what_is_missing(run: Path, tmp_path: Path) -> None:
    call = partial(CliRunner().invoke, app)
    done = call(["caption", str(run / "curate"), "--recipe", "demo", "--workers", "0"])
    assert isinstance(done.exception, UsageError) and "no table [caption]" in str(done.exception)
    recipe = recipe_with(tmp_path / "recipes").path
    wrong = ("host:8000", "http://me:secret@host/v1", "http://host/v1?key=secret", "http://h:99999/v1", "http://[")
    for address in ([], *(["--endpoint", one] for one in wrong)):
        done = call(["caption", str(run / "curate"), "--recipe", recipe, "--workers", "0", *address])
        assert isinstance(done.exception, UsageError) and "--endpoint" in str(done.exception)
        assert "secret" not in str(done.exception)


def test_a_key_is_sent_as_a_token_and_one_that_cannot_be_is_told_of_without_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_with(tmp_path / "recipes")
    with model_server() as server:
        monkeypatch.setenv(KEY_VARIABLE, "s\u00e9cret")
        failed = caption(run / "curate", recipe, ALONE, endpoint=address_of(server)).failed["00000"]
        assert KEY_VARIABLE in failed and "cret" not in failed and not server.bodies
        monkeypatch.setenv(KEY_VARIABLE, "secret\n")
        told_by(server, run, recipe)
        assert set(server.keys) == {"Bearer secret"}
    assert not any(b"secret" in path.read_bytes() for path in run.rglob("*") if path.is_file())


def test_replies_about_a_folder_of_another_name_and_packs_of_it_are_found_by_who_forgets(
    run: Path, tmp_path: Path
) -> None:
    recipe, beside = recipe_with(tmp_path / "recipes", 'prefer = "new"'), tmp_path / "beside"
    shutil.copytree(run / "curate", beside / "mine")
    with model_server() as server:
        caption(beside / "mine", recipe, ALONE, endpoint=address_of(server))
    captions = digest(["caption", str(resolved(beside / "caption"))])
    places = (beside / f"packed-{number}" for number in itertools.count())
    packed = next(one for one in places if digest(["pack", str(resolved(one))]) < captions)  # its card comes first
    pack(beside / "mine", packed, recipe, ALONE)
    rows = {row["uid"]: row["reply"] for row in rows_of(beside / "caption")}
    gone, reply = next(iter(rows.items()))
    forget(run, read_requests([gone], "the test"), [beside / "mine"])
    assert not any(reply.encode() in path.read_bytes() for path in beside.rglob("*") if path.is_file())
    assert gone not in packed_of(packed) and len(packed_of(packed)) == SEVEN - 1
    assert read_manifest(packed).extra[CAPTIONS_FROM] == read_manifest(beside / "caption").state


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_whoever_had_a_reply_is_asked_about_no_more(tmp_path: Path) -> None:
    recipe = write_curated(tmp_path / "whole")
    with model_server(lambda n, before: good(0, 0).replace("0", "any")) as server, killing() as killer:

        def work(run: Path) -> partial[Manifest]:
            return partial(caption, run / "curate", recipe, ALONE, endpoint=address_of(server))

        shutil.copytree(tmp_path / "whole", tmp_path / "count")
        num_steps = killer.count_steps(work(tmp_path / "count"))
        right = [{**row, "caption_time": None} for row in rows_of(tmp_path / "count" / "caption")]
        for step in range(0, num_steps, 7):
            run = tmp_path / f"killed-{step}"
            shutil.copytree(tmp_path / "whole", run)
            killer.kill_at(step, work(run))
            done = {path.name: path.read_bytes() for path in (run / "caption").glob("*_stats.json")}
            num_done = sum(json.loads(content)["num_seen"] for content in done.values())
            kept = [path for path in files_of(run / "caption") if f"{path.name[:5]}_stats.json" not in done]
            num_done += sum(len(path.read_bytes().splitlines()) for path in kept)
            server.asked.clear()
            work(run)()
            assert sum(server.asked.values()) == SEVEN - num_done
            assert all((run / "caption" / name).read_bytes() == content for name, content in done.items())
            assert [{**row, "caption_time": None} for row in rows_of(run / "caption")] == right
            assert verify(run, ALONE).faults == ()
            shutil.rmtree(run)
