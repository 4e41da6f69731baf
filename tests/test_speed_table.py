"""The README's table of speed is what the script makes of the committed results, whatever is there yet."""

import json
from pathlib import Path

import pytest

from benchmarks.table import END, NOT_MEASURED, START, main, placed, table

README = Path(__file__).parent.parent / "README.md"
FACTS = {"machine": {"cpu": "a processor"}, "commit": "0123456789abcdef-dirty"}


def test_the_readme_holds_the_table_of_the_committed_results(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text(README.read_text())
    main(["--readme", str(copy)])
    assert copy.read_text() == README.read_text(), "run python -m benchmarks.table"


def test_what_has_no_result_is_called_not_measured(tmp_path: Path) -> None:
    rows = [line for line in table(tmp_path).splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert all(NOT_MEASURED in row and "results/" not in row for row in rows)


def test_figures_come_from_the_results_with_their_machine_and_commit(tmp_path: Path) -> None:
    orders = {"ratios": {"declared / proposed": 12.345, "recipe / proposed": 1.0}, "num_samples": 40}
    (tmp_path / "order.json").write_text(json.dumps({**orders, "same_kept_uids": True, "same_tars": True, **FACTS}))
    part = {"what": "faces", "ours": ["decode"], "peer_cpu_ms_per_picture": 30.0, "ours_cpu_ms_per_picture": 60.0}
    peers = {
        "data_juicer": {"version": "1", "parts": {"faces": {**part, "peer / ours": 0.5}}, **FACTS},
        "nemo_curator": {"compared": False, "why": "needs a GPU", **FACTS},
    }
    (tmp_path / "peers.json").write_text(json.dumps(peers))
    lines = table(tmp_path)
    assert "| core-seconds by order, declared / proposed | 12.35 | `benchmarks/results/order.json` |" in lines
    assert "| kept pictures and tars in each order | identical, 40 pictures |" in lines
    assert "| data_juicer 1: faces, over our decode | 30.0 / 60.0 ms = 0.50 |" in lines
    assert "| nemo_curator | not comparable: needs a GPU |" in lines
    assert "`peers`: a processor, commit 0123456789ab with changes." in lines


def test_orders_that_keep_other_pictures_are_shouted_about(tmp_path: Path) -> None:
    orders = {"ratios": {}, "num_samples": 40, "same_kept_uids": True, "same_tars": False}
    (tmp_path / "order.json").write_text(json.dumps({**orders, **FACTS}))
    assert "| DIFFERENT, 40 pictures |" in table(tmp_path)


@pytest.mark.parametrize("page", ["no markers", f"{START} {START} {END}", f"{END} {START}", f"{START} {END} {END}"])
def test_a_page_without_the_two_markers_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        placed(page, "lines")
