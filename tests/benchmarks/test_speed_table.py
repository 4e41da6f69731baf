"""The tables of speed are what the script makes of the committed results, whatever is there yet."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.provenance import recipe_digest
from benchmarks.speed.names import side, sides
from benchmarks.speed.table import END, NOT_MEASURED, START, SUMMARY, main, placed, summary, table
from benchmarks.variants import SAME_EVIDENCE
from tests.places import ROOT

README, PAGE = ROOT / "README.md", ROOT / "docs" / "speed.md"
FACTS = {"machine": {"cpu": "a processor"}, "commit": "0123456789abcdef-dirty"}
NAME = "facecaptionhq-4m"
RECIPES = {"same_evidence": ";".join((NAME, *SAME_EVIDENCE)), "same_verdict": NAME}
EXACT = ';text.measure.runtime="openvino";text.measure.dtype="bfloat16"'


def of_throughput(milliseconds: float) -> dict[str, Any]:
    """What `benchmarks.speed.throughput` writes of a place, as far as the table takes it."""
    names = ("obvious", *RECIPES, "floor")
    screens = {"text": {"hit_rate": 0.875, "seen": 40}}
    ratios = [f"{over} / {under}" for name in RECIPES for over, under in (("obvious", name), (name, "floor"))]
    return {
        "recipes": RECIPES,
        "contenders": {
            name: {"cpu_ms_per_picture": milliseconds, "screens": screens if name == "same_verdict" else {}}
            for name in names
        },
        "ratios": {name: {"ratio": 12.345, "bootstrap_95": [11.0, 13.5]} for name in ratios},
        "shard": {
            "num_seen": 500,
            "cpu_ms_per_picture": 2 * milliseconds,
            "peak_mib": {"worker": 300.0, "cell": 900.0},
        },
        **FACTS,
    }


def of_agreement(place: str, *names: str) -> dict[str, Any]:
    """What `benchmarks.verdicts.agreement` writes of two sides, as far as the table takes it."""
    shares = {"drawn text": (9, 10), "marks": (5, 5), "photos": (1980, 1985)}
    return {
        "place": place,
        "sides": list(names),
        "in_sample": "chosen on these.",
        "equal_verdicts": {"hits": 1994, "of": 2000, "wilson_95": [0.9935, 0.9986]},
        "equal_verdicts_by_kind": {kind: {"hits": hits, "of": of} for kind, (hits, of) in shares.items()},
        **FACTS,
    }


def of_scaling() -> dict[str, Any]:
    """What `benchmarks.scale.scaling` writes, as far as the table takes it."""
    mode = {
        "per_picture": {"pictures_per_core_second": 3.456, "scheduling_and_io_fraction": 0.05},
        "peak_mib": {"worker": 0.0, "driver": 210.0, "cell": 800.0},
        "first_picture_s": 9.87,
    }
    ratios = {"two_cores_over_one": 1.95, "two_cores_over_local": 1.8, "ray_overhead_percent": 4.2}
    return {"modes": dict.fromkeys(("local", "ray-1", "ray-2"), mode), "ratios": ratios, **FACTS}


def test_page_and_readme_hold_the_tables_of_the_committed_results(tmp_path: Path) -> None:
    copies = {path: tmp_path / path.name for path in (PAGE, README)}
    for path, copy in copies.items():
        copy.write_text(path.read_text())
    main(["--page", str(copies[PAGE]), "--readme", str(copies[README])])
    for path, copy in copies.items():
        assert copy.read_text() == path.read_text(), f"{path}: run python -m benchmarks.speed.table"


def test_the_readme_has_five_rows_with_a_figure_each_and_every_one_is_in_the_page_too() -> None:
    rows = [line for line in README.read_text().partition(START)[2].partition(END)[0].splitlines() if line[:2] == "| "]
    assert len(rows[1:]) == len(SUMMARY) == 5
    page = PAGE.read_text()
    assert all(row in page and NOT_MEASURED not in row for row in rows)


def test_what_has_no_result_is_called_not_measured(tmp_path: Path) -> None:
    rows = [line for line in table(tmp_path).splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert all(NOT_MEASURED in row and "results/" not in row for row in rows)
    few = [line for line in summary(tmp_path).splitlines() if line.startswith("| ")][1:]
    assert few == [row for subject in SUMMARY for row in rows if row.startswith(f"| {subject} |")]


def test_the_summary_takes_the_first_of_several_places_and_names_the_machines_of_its_own_results(
    tmp_path: Path,
) -> None:
    results = {
        "throughput": {"corpus": of_throughput(1234.56)},
        "agreement": {place: of_agreement(place, f"{NAME};-screens", NAME) for place in ("corpus", "gold")},
        "order": {"ratios": {}, "num_samples": 40, "same_kept_uids": True, "same_tars": True, **FACTS},
    }
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    lines = summary(tmp_path)
    rows = [line.split(" | ")[0] for line in lines.splitlines() if line.startswith("| ")][1:]
    assert rows[0] == f"| CPU time per picture, {NAME}" and rows[3].endswith("on `corpus`")
    assert "`throughput`: a processor" in lines and "`order`" not in lines
    assert f"| {list(SUMMARY)[-1]} | {NOT_MEASURED} | benchmarks.scale.scaling |" in lines


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


@pytest.mark.parametrize(
    ("text", "known", "said"),
    [
        (NAME, recipe_digest(NAME), "."),
        (NAME, "0" * 64, ", an earlier recipe."),
        (f"{NAME};faces.measure.sides=640", recipe_digest(NAME), ", an earlier recipe."),
        ("facecaptionhq-3m", recipe_digest(NAME), ", an earlier recipe."),
    ],
)
def test_figures_of_another_recipe_than_the_present_one_are_called_so(
    tmp_path: Path, text: str, known: str, said: str
) -> None:
    facts = {"machine": {"cpu": "a processor", "vectors": ["avx2", "avx512f"]}, "commit": "0123456789abcdef"}
    result = {"same_kept_uids": True, "same_tars": True, "num_samples": 40, "recipe_digests": {text: known}, **facts}
    (tmp_path / "order.json").write_text(json.dumps(result))
    assert f"`order`: a processor (avx512f), commit 0123456789ab{said}" in table(tmp_path)


def test_the_recipe_s_digest_follows_what_it_measures_and_in_which_order() -> None:
    texts = (NAME, f"{NAME};-screens", f"{NAME};faces.measure.side=640", f"{NAME};curate.num_batch_samples=3")
    first, plain, larger, same = map(recipe_digest, texts)
    assert len({first, plain, larger}) == 3 and same == first


def test_with_every_result_there_the_table_stays_short_and_speaks_of_contenders_by_their_names(tmp_path: Path) -> None:
    exact = f"{NAME};-screens{EXACT}"
    entries = [
        of_agreement("corpus", "obvious", NAME),
        of_agreement("corpus", exact, NAME + EXACT),
        of_agreement("gold", "obvious", NAME),
    ]
    part = {"what": "w", "ours": ["decode"], "peer_cpu_ms_per_picture": 3.0, "ours_cpu_ms_per_picture": 6.0}
    parts = {name: {**part, "what": name, "peer / ours": 0.5} for name in ("one", "two")}
    results = {
        "throughput": {"corpus": of_throughput(1234.56), "gold": of_throughput(20.0)},
        "agreement": {str(number): entry for number, entry in enumerate(entries)},
        "order": {"ratios": {"declared / proposed": 1.5, "recipe / proposed": 1.0}, "num_samples": 400, **FACTS}
        | {"same_kept_uids": True, "same_tars": True},
        "scaling": of_scaling(),
        "peers": {name: {"version": "1", "parts": parts, **FACTS} for name in ("cleanvision", "data_juicer")}
        | {"nemo_curator": {"why": "needs a GPU", **FACTS}},
    }
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    lines = table(tmp_path)
    rows = [line for line in lines.splitlines() if line.startswith("| ")][1:]
    assert len(rows) <= 30 and NOT_MEASURED not in lines and "_" not in "".join(rows[:10])
    cost = "1,234.6 ms on `corpus`; 20.0 ms on `gold`"
    costs = [row for row in rows if row.startswith("| CPU time per picture, ") and cost in row]
    assert [row.split(" | ")[0].partition(", ")[2] for row in costs] == ["obvious", "same evidence", NAME, "floor"]
    assert "| ratio facecaptionhq-4m / floor | 12.3 (95 %: 11.0 to 13.5) on `corpus`; " in lines
    assert "same evidence / floor" not in lines
    assert "| pictures that its screens spare `text`, facecaptionhq-4m | 87.5% of 40 on `corpus`; " in lines
    assert "| throughput, Ray on 2 cores over one loop | 1.80 |" in lines
    assert "| 210 + 800 MiB, 210 + 800 MiB, 210 + 800 MiB |" in lines
    kinds = "1,994 of 2,000 (95 %: 0.994 to 0.999): drawn text 9 of 10, marks 5 of 5, photos 1,980 of 1,985"
    assert f"| equal verdicts (in-sample), obvious and {NAME}, on `corpus` | {kinds} |" in lines
    assert (
        f"(in-sample), {NAME} without screens and {NAME} (both: text runtime openvino, text dtype bfloat16), " in lines
    )
    assert lines.count("In-sample: chosen on these.") == 1


def test_what_is_not_said_to_be_in_sample_is_not_called_so(tmp_path: Path) -> None:
    entry = of_agreement("corpus", "obvious", NAME)
    del entry["in_sample"], entry["equal_verdicts_by_kind"]
    (tmp_path / "agreement.json").write_text(json.dumps({"corpus": entry}))
    lines = table(tmp_path)
    assert f"| equal verdicts, obvious and {NAME}, on `corpus` | 1,994 of 2,000 (95 %: 0.994 to 0.999) |" in lines
    assert "in-sample" not in lines.lower()


def test_recipes_of_a_benchmark_are_said_in_words() -> None:
    assert side("obvious") == "obvious"
    assert side("configs/demo.toml;-screens;text.measure.runtime='torch'") == "demo without screens, text runtime torch"
    assert side(RECIPES["same_evidence"] + EXACT) == "same evidence, text runtime openvino, text dtype bfloat16"
    assert side("facecaptionhq-4m;-drawn;-screens") == "facecaptionhq-4m without drawn and screens"
    assert sides(["obvious", RECIPES["same_evidence"]]) == "obvious and same evidence"


def test_orders_that_keep_other_pictures_are_shouted_about(tmp_path: Path) -> None:
    orders = {"ratios": {}, "num_samples": 40, "same_kept_uids": True, "same_tars": False}
    (tmp_path / "order.json").write_text(json.dumps({**orders, **FACTS}))
    assert "| DIFFERENT, 40 pictures |" in table(tmp_path)


@pytest.mark.parametrize("page", ["no markers", f"{START} {START} {END}", f"{END} {START}", f"{START} {END} {END}"])
def test_a_page_without_the_two_markers_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        placed(page, "lines")
