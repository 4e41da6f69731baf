import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from typer.testing import CliRunner, Result

from cli import app
from curation.commands.card.ledgers import opened
from curation.commands.card.markdown import code, prose
from curation.commands.card.numbers import NUMBERS
from curation.commands.card.origin import origin_of
from curation.commands.card.samples import row_of, schema_of
from curation.commands.card.stage import check_card, write_card
from curation.commands.card.statements import stated
from curation.commands.card.text import tell_faults
from curation.commands.curate.stage import curate
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import pack
from curation.commands.verify.faults import Fault
from curation.errors import VerificationError
from curation.storage.publish import publish_sealed, read_sealed
from tests.curation.older_run import unpack_older_run
from tests.curation.shards import colourful, recipe_from, write_shard
from tests.curation.whole_run import ALONE, url_of, write_run
from tests.places import ROOT

DAY = "2026-11-30"
PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a`b``c | d", "\u202eevil\x1b[31m", "=1+1", "@SUM(A1)",
    "[click](javascript:alert(1))", "-->\n# heading", "x" * 200_000, "{{ 7 * 7 }}", "---\nlicense: mit",
)  # fmt: skip


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and its card."""
    folder = tmp_path_factory.mktemp("card")
    write_run(folder / "run")
    write_card(folder / "run", folder / "card", stated(date=DAY))
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to change."""
    return shutil.copytree(made, tmp_path / "own", symlinks=True)


def numbers(card: Path) -> dict[str, Any]:
    return {number["name"]: number["value"] for number in read_sealed(card / "card.json")["numbers"]}


def test_the_numbers_of_a_card_are_those_of_the_ledgers(made: Path) -> None:
    index = pq.read_table(made / "run/pack/index.parquet").to_pylist()
    told = numbers(made / "card")
    assert told["num_samples"] == len(index) == pq.read_metadata(made / "card/data/train.parquet").num_rows
    assert told["num_bytes"] == sum(row["num_bytes"] for row in index)
    assert sum(num for _, num in told["domains"]) == len(index)
    for stage, kept in (("rank", 24), ("fetch", 21), ("curate", 18), ("pack", 18)):
        assert told[f"{stage}_kept"] == kept
        assert told[f"{stage}_seen"] == kept + sum(num for _, _, num in told[f"{stage}_reasons"])
    assert call("card", made / "run/pack", "--out", made / "card", "--check").exit_code == 0
    assert not list((made / "card").rglob("_tmp"))


def test_the_table_of_a_card_says_what_the_tars_say_but_no_pixel(made: Path) -> None:
    table = pq.read_table(made / "card/data/train.parquet")
    assert {"uid", "url", "caption", "captions", "license", "sha256", "colour_mean_channel_std"} <= set(
        table.column_names
    )
    assert not [field for field in table.schema if "binary" in str(field.type)]
    by_uid = {row["uid"]: row for row in pq.read_table(made / "run/pack/index.parquet").to_pylist()}
    for row in table.to_pylist():
        assert (row["sha256"], row["url"]) == (by_uid[row["uid"]]["sha256"], by_uid[row["uid"]]["url"])
        assert row["caption"] in row["captions"] and row["colour_mean_channel_std"] >= 2


def test_faces_are_measured_in_the_published_table(made: Path, tmp_path: Path) -> None:
    schema = schema_of({"has_face_fields": True, "scores": {"faces": ["num_faces"]}, "joint_scores": ["overlap"]})
    told = {
        "uid": "a", "url": "urn:sha256:ab", "license": "unknown", "width": 100, "height": 50, "caption": "a man",
        "face_box": [10.0, 0.0, 30.0, 25.0], "face_confidence": 0.9,
        "scores": {"faces": {"num_faces": 1.0}, "joint": {"overlap": 0.0}},
    }  # fmt: skip
    row = row_of(told, "00000", schema)
    assert (row["url"], row["license"], row["face_x2"], row["face_confidence"]) == (None, None, 30.0, 0.9)
    assert (row["faces_num_faces"], row["joint_overlap"]) == (1.0, 0.0)
    pq.write_table(pa.Table.from_pylist([row], schema), tmp_path / "samples.parquet")
    with opened(origin_of(made / "run"), tmp_path / "samples.parquet") as ledgers:
        assert ledgers.ask(NUMBERS["face_side_px"]) == [[20] * 5]
        assert ledgers.ask(NUMBERS["face_share_percent"]) == [[10] * 5]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def reseal(path: Path) -> None:
    values = read_sealed(path)
    next(each for each in values["numbers"] if each["name"] == "num_samples")["value"] = 19
    publish_sealed(path, values)


def swap_table(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


def add(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


EDITS: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    ("README.md", lambda path: edit(path, "| samples | 18 |", "| samples | 19 |"), "| samples | 18 |"),
    ("README.md", lambda path: add(path, "\nOf 4,000,000 people.\n"), "4,000,000"),
    ("croissant.json", lambda path: edit(path, '"18 pictures', '"19 pictures'), "description is '19 pictures"),
    ("card.json", reseal, "numbers.num_samples is 19; right would be: 18"),
    ("data/train.parquet", swap_table, "another table"),
)
DAMAGES: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    ("README.md", lambda path: path.unlink(), "README.md: missing"),
    ("croissant.json", lambda path: path.write_text("{"), "croissant.json line"),
)


@pytest.mark.parametrize("changes", [EDITS, DAMAGES], ids=["edited", "damaged"])
def test_whatever_of_a_card_is_changed_is_found_with_its_place(
    own: Path, changes: tuple[tuple[str, Callable[[Path], object], str], ...]
) -> None:
    for name, change, _ in changes:
        change(own / "card" / name)
    result = call("card", own / "run/pack", "--out", own / "card", "--check")
    assert result.exit_code == 5
    for _, _, named in changes:
        assert named in result.stdout, result.stdout


def test_nothing_counts_in_a_card_whose_seal_is_broken(own: Path) -> None:
    edit(own / "card/card.json", '"value": 20452', '"value": 20453')
    result = call("card", own / "run/pack", "--out", own / "card", "--check")
    assert isinstance(result.exception, VerificationError) and "card.json" in str(result.exception)


@pytest.mark.slow
def test_a_card_is_stale_once_its_ledgers_are_others_and_the_next_counts_what_was_taken_out(own: Path) -> None:
    first = own / "run/pack/index.parquet"
    gone = pq.read_table(first).to_pylist()[0]
    forget(own / "run", read_requests([gone["uid"], url_of(999)], "a list"))
    short = call("card", own / "run", "--out", own / "card", "--check")
    assert short.exit_code == 5 and len(short.stdout.splitlines()) < 20 and "-v names the other" in short.stdout
    assert "since somebody was forgotten after it was made" in short.stdout
    assert "numbers." in short.stdout and "README.md line" in short.stdout
    result = call("card", own / "run", "--out", own / "card", "--check", "-v")
    assert result.exit_code == 5
    for told in (
        "takedowns is",
        "state is",
        "ledgers.pack/ledger.parquet",
        "numbers.num_forgotten is 0; right would be: 1",
    ):
        assert told in result.stdout, result.stdout
    assert call("card", own / "run", "--out", own / "card", "--date", DAY).exit_code == 0
    now = numbers(own / "card")
    counted = ("num_samples", "num_requests", "num_requests_found", "num_forgotten")
    assert [now[name] for name in counted] == [17, 2, 1, 1]
    assert gone["uid"] not in pq.read_table(own / "card/data/train.parquet")["uid"].to_pylist()
    assert check_card(own / "run", own / "card") == ()


def test_only_a_card_that_says_who_was_forgotten_is_called_older_than_a_takedown(tmp_path: Path) -> None:
    for told, right, is_since in (("'ab'", "'cd'", True), ("None", "'cd'", False), ("'ab'", "None", False)):
        said = tell_faults(tmp_path, [Fault("card.json", f"takedowns is {told}", right)])
        assert ("somebody was forgotten" in said) == is_since and "make the card again" in said


def test_no_number_is_taken_from_a_ledger_that_the_manifest_does_not_name(own: Path) -> None:
    path = next((own / "run/curate").glob("*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    result = call("card", own / "run/pack", "--out", own / "card", "--check")
    assert isinstance(result.exception, VerificationError) and path.name in str(result.exception)


def test_a_card_goes_where_a_card_or_nothing_is(made: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("my own")
    assert "holds something else" in str(call("card", made / "run", "--out", tmp_path).exception)
    assert (tmp_path / "README.md").read_text() == "my own"
    shutil.copytree(made / "card", tmp_path / "begun")
    (tmp_path / "begun/card.json").unlink()  # as where it was stopped
    assert call("card", made / "run", "--out", tmp_path / "begun", "--date", DAY).exit_code == 0
    assert (tmp_path / "begun/card.json").read_bytes() == (made / "card/card.json").read_bytes()
    assert "leave out --title" in str(
        call("card", made / "run", "--out", tmp_path, "--check", "--title", "x").exception
    )


def test_the_template_holds_no_number_of_its_own() -> None:
    text = (ROOT / "curation/commands/card/readme.md.j2").read_text()
    assert re.findall(r"\b\d+", re.sub(r"\{[{%].*?[%}]\}", "", text, flags=re.DOTALL)) == []


def shown_as(markdown: str) -> str:
    return str(PARSER.render(markdown))


def test_what_the_world_wrote_stays_text_in_the_card(tmp_path: Path) -> None:
    samples = [
        [
            (f"{i:05d}.jpg", colourful(i)),
            (f"{i:05d}.json", json.dumps({"license": text, "author": text, "url": f"http://h{i}.org/a"}).encode()),
            (f"{i:05d}.txt", f"A caption that says {text[:3000]}".encode()),
        ]
        for i, text in enumerate(HOSTILE)
    ]
    write_shard(tmp_path / "tars", "00000", samples)
    recipe = recipe_from(tmp_path)
    curate(tmp_path / "tars", tmp_path / "run/curate", recipe, ALONE)
    pack(tmp_path / "run/curate", tmp_path / "run/pack", recipe, ALONE)
    hostile = stated(
        date=DAY, title=HOSTILE[0], contact=HOSTILE[1], retention=HOSTILE[6], form="pixels", rights=HOSTILE[7]
    )
    write_card(tmp_path / "run", tmp_path / "card", hostile)
    text = (tmp_path / "card/README.md").read_text()
    assert "\x1b" not in text and "\u202e" not in text and len(text) < 20_000
    page = shown_as(text.partition("\n---\n")[2])
    assert not re.search(r"<(script|img|a) ", page.replace("<script>", "<script ")), page
    assert page.count("<h1>") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "{{ 7 * 7 }}" in page
    for name in ("card.json", "croissant.json"):
        assert (tmp_path / "card" / name).read_text().isascii()
    licences = {row["license"] for row in pq.read_table(tmp_path / "card/data/train.parquet").to_pylist()}
    assert "<script>alert(1)</script>" in licences  # the data is what it was


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_no_text_makes_markup(text: str) -> None:
    for form in (code(text), prose(text)):
        page = shown_as(f"| a | b |\n|---|---|\n| x {form} | y |\n")
        inside = re.sub(r"</?(table|thead|tbody|tr|th|td|code)>", "", page)
        assert "<" not in inside, page
        assert page.count("<td>") == 2, page


def test_a_pack_of_an_older_release_has_a_configuration_per_series(tmp_path: Path) -> None:
    card = write_card(
        unpack_older_run(tmp_path), tmp_path / "card", stated(date=DAY, form="pixels", rights="drawn here")
    )
    front = (tmp_path / "card/README.md").read_text().split("---\n")[1]
    assert re.findall(r"config_name: (\w+)", front) == ["jpg", "png"] and 'path: "pixels/png-*.tar"' in front
    assert (card.values["num_samples"], card.values["num_without_licence"]) == (8, None)


@pytest.mark.slow
def test_mlcroissant_finds_the_card_valid_and_reads_every_row(made: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="no wheels for all of it: not in the locks")
    described = mlcroissant.Dataset(made / "card/croissant.json")
    assert not described.metadata.ctx.issues.errors
    rows = list(described.records("samples"))
    assert len(rows) == 18


def test_croissant_names_what_is_there_by_hash_and_column(made: Path) -> None:
    described = json.loads((made / "card/croissant.json").read_text())
    (file,) = described["distribution"]
    path = made / "card" / file["contentUrl"]
    assert int(file["contentSize"].removesuffix(" B")) == path.stat().st_size
    fields = {field["source"]["extract"]["column"] for field in described["recordSet"][0]["field"]}
    assert fields == set(pq.read_schema(path).names)
    used = {key for key in described if not key.startswith("@")} | {key for key in file if not key.startswith("@")}
    assert {key.partition(":")[0] for key in used if ":" in key} == {"rai"}
    for name in ("conformsTo", "license", "creator", "datePublished", "version", "rai:personalSensitiveInformation"):
        assert described[name]
