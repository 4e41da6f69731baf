"""Writes the table of speed in docs/speed.md from the committed results, and the rows that say most into README.md.

    python -m benchmarks.speed.table [--page docs/speed.md] [--readme README.md]

What has no result yet is called `not measured`. Both stand between two markers, and a test holds them against this
script.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, ROOT, recipe_digest
from benchmarks.speed.names import contender, sides
from curation.errors import FaceCaptionError

FLOOR, SAME = "floor", "same evidence"
START, END = "<!-- speed -->", "<!-- /speed -->"
NOT_MEASURED = "not measured"
ROLES = ("worker", "cell")
MODES = {"local": "one loop", "ray-1": "Ray on 1 core", "ray-2": "Ray on 2 cores"}
COSTS = (
    "CPU time per picture, obvious",
    "CPU time per picture, same evidence",
    "CPU time per picture, facecaptionhq-4m",
    "CPU time per picture, floor",
    "ratio obvious / same evidence",
    "ratio obvious / facecaptionhq-4m",
    "ratio facecaptionhq-4m / floor",
    "pictures that its screens spare `text`, facecaptionhq-4m",
    "whole shard, tar and ledger written, facecaptionhq-4m",
    "peak memory of it, worker + cell",
)
"""What `benchmarks.speed.throughput` yields when it is called without options, in the order of the table."""
SUMMARY = {
    "CPU time per picture, facecaptionhq-4m": "throughput",
    "ratio obvious / facecaptionhq-4m": "throughput",
    "ratio facecaptionhq-4m / floor": "throughput",
    "equal verdicts, facecaptionhq-4m without screens and facecaptionhq-4m": "agreement",
    "throughput, Ray on 2 cores over one loop": "scaling",
}
"""The rows that say most -> their results: what a row is of, without the place and whether it is in-sample."""
Row = tuple[str, str, str]
"""What, the figure, and the name of the results that it comes from."""
Results = Mapping[str, Any]
SCRIPTS = {
    "throughput": "benchmarks.speed.throughput",
    "agreement": "benchmarks.verdicts.agreement",
    "order": "benchmarks.speed.order",
    "scaling": "benchmarks.scale.scaling",
    "peers": "benchmarks.speed.peers",
}
"""Results by name -> what measures them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Put the table into its page, and the rows that say most into the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.table", description=__doc__)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "speed.md", help="gets the whole table")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="gets the rows that say most")
    chosen = parser.parse_args(arguments)
    for path, lines in ((chosen.page, table(RESULTS)), (chosen.readme, summary(RESULTS))):
        path.write_text(placed(path.read_text(encoding="utf-8"), lines), encoding="utf-8")
    return 0


def placed(text: str, lines: str) -> str:
    """Return a page with what stands between its markers replaced.

    Raises:
        ValueError: it has not each marker once, in order.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end) or START in rest or END in before + after:
        raise ValueError(f"a page needs {START} and {END} once each, in this order")
    return f"{before}{START}\n{lines}{END}{after}"


def table(folder: Path) -> str:
    """Return the table of all results in a folder, what must be known of them, and where each was measured."""
    found = _found(folder)
    notes = (f"{note}  " for note in _notes(found["agreement"]))
    return "\n".join([*_lines(_rows(found), found), "", *notes, *_machines(found)]) + "\n"


def summary(folder: Path) -> str:
    """Return the rows of `SUMMARY` alone, and where the results that they come from were measured."""
    found = _found(folder)
    rows: dict[str, Row] = {}
    for row in _rows(found):
        rows.setdefault(_subject(row[0]), row)
    chosen = [rows.get(subject, (subject, NOT_MEASURED, name)) for subject, name in SUMMARY.items()]
    used = {name: found[name] for name in dict.fromkeys(SUMMARY.values())}
    used["agreement"] = {
        name: one for name, one in found["agreement"].items() if f"equal verdicts, {sides(one['sides'])}" in SUMMARY
    }
    return "\n".join([*_lines(chosen, found), "", *_machines(used)]) + "\n"


def _subject(what: str) -> str:
    """Return what a row is of, whatever the place and whether it is in-sample."""
    return what.replace(" (in-sample)", "").partition(", on `")[0]


def _found(folder: Path) -> dict[str, Results]:
    return {name: _read(folder / f"{name}.json") for name in SCRIPTS}


def _rows(found: Mapping[str, Results]) -> list[Row]:
    return [
        *_throughput(found["throughput"]),
        *_agreement(found["agreement"]),
        *_order(found["order"]),
        *_scaling(found["scaling"]),
        *_peers(found["peers"]),
    ]


def _lines(rows: Sequence[Row], found: Mapping[str, Results]) -> list[str]:
    lines = ["| what | figure | from |", "|---|---|---|"]
    for what, figure, name in rows:
        source = f"`benchmarks/results/{name}.json`" if found[name] else SCRIPTS[name]
        lines.append(f"| {what} | {figure} | {source} |")
    return lines


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value


def _throughput(results: Results) -> Iterator[Row]:
    """Yield cost, ratios and floor, one row each whatever the number of places: their figures stand side by side."""
    rows: dict[str, list[str]] = {}
    for place, one in results.items():
        for what, figure in _costs(one):
            rows.setdefault(what, []).append(f"{figure} on `{place}`")
    for what in rows or COSTS:
        yield what, "; ".join(rows.get(what, [])) or NOT_MEASURED, "throughput"


def _costs(one: Results) -> Iterator[tuple[str, str]]:
    contenders = {name: contender(name, one["recipes"]) for name in one["contenders"]}
    for name, words in contenders.items():
        yield f"CPU time per picture, {words}", f"{one['contenders'][name]['cpu_ms_per_picture']:,.1f} ms"
    last = list(one["recipes"])[-1]
    for ratio, value in one["ratios"].items():
        over, _, under = ratio.partition(" / ")
        if under != FLOOR or contenders[over] != SAME:
            what = f"ratio {contenders[over]} / {contenders[under]}"
            yield what, f"{value['ratio']:,.1f} ({_interval(value['bootstrap_95'], 1)})"
    for name, words in contenders.items():
        for screened, hits in (one["contenders"][name].get("screens") or {}).items():
            rate = f"{hits['hit_rate']:.1%} of {hits['seen']}"
            yield f"pictures that its screens spare `{screened}`, {words}", rate
    if shard := one.get("shard"):
        peak = " + ".join(f"{shard['peak_mib'][role]:,.0f}" for role in ROLES if shard["peak_mib"].get(role))
        words = contender(last, one["recipes"])
        figure = f"{shard['cpu_ms_per_picture']:,.1f} ms a picture of {shard['num_seen']}"
        yield f"whole shard, tar and ledger written, {words}", figure
        yield f"peak memory of it, {' + '.join(ROLES)}", f"{peak} MiB"


def _agreement(results: Results) -> Iterator[Row]:
    """Yield equal verdicts by pair of sides, and beside the whole what was made in which way."""
    if not results:
        yield "equal verdicts, obvious and facecaptionhq-4m", NOT_MEASURED, "agreement"
        yield "equal verdicts, facecaptionhq-4m without screens and facecaptionhq-4m", NOT_MEASURED, "agreement"
    for one in results.values():
        equal = one["equal_verdicts"]
        figure = f"{equal['hits']:,} of {equal['of']:,} ({_interval(equal['wilson_95'], 3)})"
        kinds = [
            f"{kind} {share['hits']:,} of {share['of']:,}"
            for kind, share in one.get("equal_verdicts_by_kind", {}).items()
            if share["of"]
        ]
        note = " (in-sample)" if "in_sample" in one else ""
        yield (
            f"equal verdicts{note}, {sides(one['sides'])}, on `{one['place']}`",
            ": ".join([figure, ", ".join(kinds)] if len(kinds) > 1 else [figure]),
            "agreement",
        )


def _notes(results: Results) -> Iterator[str]:
    """Yield what must be known of the agreement's figures, once."""
    for note in dict.fromkeys(one["in_sample"] for one in results.values() if "in_sample" in one):
        yield f"In-sample: {note}"


def _order(results: Results) -> Iterator[Row]:
    for ratio in ("declared / proposed", "recipe / proposed"):
        value = results.get("ratios", {}).get(ratio)
        yield f"core-seconds by order, {ratio}", f"{value:,.2f}" if value else NOT_MEASURED, "order"
    same = results and results["same_kept_uids"] and results["same_tars"]
    figure = f"{'identical' if same else 'DIFFERENT'}, {results['num_samples']} pictures" if results else NOT_MEASURED
    yield "kept pictures and tars in each order", figure, "order"


def _scaling(results: Results) -> Iterator[Row]:
    ratios, modes = results.get("ratios", {}), results.get("modes", {})

    def shown(value: float | None, form: str) -> str:
        return NOT_MEASURED if value is None else form.format(value)

    yield "throughput, Ray on 2 cores over Ray on 1", shown(ratios.get("two_cores_over_one"), "{:.2f}"), "scaling"
    yield "throughput, Ray on 2 cores over one loop", shown(ratios.get("two_cores_over_local"), "{:.2f}"), "scaling"
    yield "CPU time, Ray over one loop", shown(ratios.get("ray_overhead_percent"), "{:+.1f} %"), "scaling"
    figures: dict[str, list[str]] = {}
    for mode in MODES:
        one = modes.get(mode, {})
        cost, peak = one.get("per_picture", {}), one.get("peak_mib", {})
        per_s, share = cost.get("pictures_per_core_second"), cost.get("scheduling_and_io_fraction")
        memory = f"{peak['worker'] or peak['driver']:,.0f} + {peak['cell']:,.0f} MiB" if peak else NOT_MEASURED
        figures.setdefault("pictures per core-second", []).append(shown(per_s, "{:,.2f}"))
        figures.setdefault("scheduling and I/O, share of CPU time", []).append(shown(share, "{:.1%}"))
        figures.setdefault("peak memory, worker + cell", []).append(memory)
        figures.setdefault("time to first picture", []).append(shown(one.get("first_picture_s"), "{:.1f} s"))
    for what, values in figures.items():
        yield f"{what}: {', '.join(MODES.values())}", ", ".join(values) if modes else NOT_MEASURED, "scaling"


def _peers(results: Results) -> Iterator[Row]:
    for peer in ("cleanvision", "data_juicer", "nemo_curator"):
        one = results.get(peer, {})
        if not one:
            yield f"{peer}", NOT_MEASURED, "peers"
        elif not one.get("parts"):
            yield f"{peer} {one.get('version', '')}".strip(), f"not comparable: {one['why']}", "peers"
        for part in one.get("parts", {}).values():
            what = f"{peer} {one['version']}: {part['what']}, over our {' + '.join(part['ours'])}"
            theirs, ours = part["peer_cpu_ms_per_picture"], part["ours_cpu_ms_per_picture"]
            yield what, f"{theirs:,.1f} / {ours:,.1f} ms = {part['peer / ours']:,.2f}", "peers"


def _machines(found: Mapping[str, Results]) -> Iterator[str]:
    """Yield where each comes from: results of several parts carry a machine and a commit each."""
    for name, results in found.items():
        parts = [results] if "commit" in results else list(results.values())
        yield from dict.fromkeys(f"`{name}`: {_origin(one)}.  " for one in parts)


def _origin(one: Results) -> str:
    """Return machine and commit of a result, and whether its recipe is another one by now."""
    vectors = one["machine"].get("vectors", [])
    cpu = f"{one['machine']['cpu']} ({vectors[-1]})" if vectors else one["machine"]["cpu"]
    commit, is_dirty, _ = one["commit"].partition("-dirty")
    is_past = any(_is_past(text, known) for text, known in one.get("recipe_digests", {}).items())
    return f"{cpu}, commit {commit[:12]}{' with changes' * bool(is_dirty)}{', an earlier recipe' * is_past}"


def _is_past(text: str, known: str) -> bool:
    """Return whether a recipe is another one than it was, or is none any more."""
    try:
        return recipe_digest(text) != known
    except FaceCaptionError:
        return True


def _interval(bounds: Sequence[float], digits: int) -> str:
    return f"95 %: {bounds[0]:,.{digits}f} to {bounds[1]:,.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
