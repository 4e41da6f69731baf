import csv
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli import app
from curation.commands.card.stage import write_card
from curation.commands.card.statements import stated
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.ledger.cells import guarded, unguarded
from curation.commands.ledger.export import export_ledger
from curation.dataset.ledger import BASE_FIELDS, write_ledger
from curation.errors import UsageError
from tests.curation.whole_run import write_run

TRIGGERS = tuple("=+-@\t\r＝＋－＠")  # noqa: RUF001
SCORES = pa.struct([("bent", pa.float64())])
SCHEMA = pa.schema(
    [*BASE_FIELDS, ("blur_scores", SCORES), ("blur_evidence", pa.struct([("spots", pa.list_(pa.int32()))]))]
)
HOSTILE = (
    "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "'quoted", "＝1", "\n=1",  # noqa: RUF001
    '"; =1', "a,=1", "<script>alert(1)</script>", "<img onerror=x>", "\u202eevil",
    "\u00a0=1", "\u200b=1", "\ufeff-1", "\v@a", "\u202e\u2060 +1", "\u22121",
    "\x1b[31m", "x" * 200_000, "", "NA",
)  # fmt: skip


@given(st.lists(st.none() | st.text(max_size=20) | st.sampled_from(HOSTILE), min_size=1, max_size=20))
def test_a_guarded_text_is_no_formula_and_comes_back(texts: list[str | None]) -> None:
    cells = guarded(pa.array(texts, pa.string())).to_pylist()
    assert [None if cell is None else unguarded(cell) for cell in cells] == texts
    assert not any((cell or "").lstrip(" \n\f\v").startswith(TRIGGERS) for cell in cells)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, object]]]:
    """A run whose curated ledger holds what the world wrote, and its rows."""
    run = tmp_path_factory.mktemp("ledger") / "run"
    write_run(run)
    rows: list[dict[str, object]] = [
        {
            "uid": f"{number:032x}", "key": text, "url": text or None, "sha256": None, "width": -number, "height": 2,
            "kept": True, "rejected_by": None, "reason": None,
            "blur_scores": None if number == 1 else {"bent": math.nan if number == 2 else -number / 3},
            "blur_evidence": {"spots": [number, 7]},
        }
        for number, text in enumerate(HOSTILE)
    ]  # fmt: skip
    for path in sorted((run / "curate").glob("*.parquet"))[1:]:
        write_ledger(path, [], SCHEMA, {})
    write_ledger(min((run / "curate").glob("*.parquet")), rows, SCHEMA, {})
    return run, rows


def test_a_ledger_comes_back_from_each_form(ledger: tuple[Path, list[dict[str, object]]], tmp_path: Path) -> None:
    run, rows = ledger
    for suffix in ("csv", "jsonl", "parquet"):
        done = CliRunner().invoke(app, ["ledger", str(run), "--to", str(tmp_path / f"out.{suffix}")])
        assert (done.exit_code, done.stdout) == (0, f"{len(rows)} rows\n"), done.exception
    csv.field_size_limit(1 << 20)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="ascii").splitlines()]
    back = pq.read_table(tmp_path / "out.parquet").to_pylist()
    for number, row in enumerate(rows):
        assert unguarded(cells[number]["key"]) == lines[number]["key"] == back[number]["key"] == row["key"]
        assert int(cells[number]["width"]) == -number
        assert json.loads(cells[number]["blur_evidence"]) == row["blur_evidence"] == lines[number]["blur_evidence"]
    assert [cells[n]["blur_scores.bent"] for n in (1, 2)] == ["", "nan"]
    assert (lines[1]["blur_scores"], lines[2]["blur_scores"]) == (None, {"bent": "nan"})
    assert float(cells[5]["blur_scores.bent"]) == -5 / 3 == back[5]["blur_scores"]["bent"]
    assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for row in cells for cell in row.values())
    assert not list(tmp_path.glob("_tmp"))


@pytest.mark.slow
def test_what_a_forget_must_reach_is_named_and_what_is_half_done_is_not_exported(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run)
    export_ledger(run, tmp_path / "out.csv")
    write_card(run, tmp_path / "card", stated(date="2026-11-30"))
    uid = pq.read_table(run / "pack/index.parquet")["uid"][0].as_py()
    (tmp_path / "card/notes.txt").write_text(f"{uid} is mine\n")
    _, receipt = forget(run, read_requests([uid], "a list"))
    wanted = {str(tmp_path / name) for name in ("out.csv", "card/data/train.parquet")}
    assert receipt["not_reached"].keys() == wanted
    assert "`facecaptionhq ledger`" in receipt["not_reached"][str(tmp_path / "out.csv")]
    assert uid in (tmp_path / "card/notes.txt").read_text(), "nothing of the user's is rewritten"
    (run / "forgotten/journal.json").write_text("{}")
    with pytest.raises(UsageError, match="was interrupted"):
        export_ledger(run, tmp_path / "again.csv")
    (run / "forgotten/journal.json").unlink()
    (run / "curate/manifest.json").unlink()
    with pytest.raises(UsageError, match="curate has not finished"):
        export_ledger(run, tmp_path / "again.csv")
    assert not (tmp_path / "again.csv").exists()


def test_what_is_no_place_for_a_ledger_or_no_ledger_is_refused(
    ledger: tuple[Path, list[dict[str, object]]], tmp_path: Path
) -> None:
    run, _ = ledger
    (tmp_path / "there.csv").write_text("mine")
    for target in (tmp_path / "out.xls", tmp_path / "there.csv", tmp_path / "no/out.csv", run / "curate/out.csv"):
        with pytest.raises(UsageError, match=target.name):
            export_ledger(run, target)
    with pytest.raises(UsageError, match="there is rank, fetch, curate, pack"):
        export_ledger(run, tmp_path / "out.csv", "report")
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert (
        export_ledger(run / "pack", tmp_path / "pack.jsonl") == 18
        and export_ledger(run, tmp_path / "r.csv", "rank") == 27
    )
