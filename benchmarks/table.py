"""Writes the table of speed in README.md from the committed results; what has none yet is called `not measured`.

    python -m benchmarks.table [--readme README.md]

It stands between two markers, and a test holds it against this script.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
START, END = "<!-- speed -->", "<!-- /speed -->"
NOT_MEASURED = "not measured"
ROLES = ("worker", "cell")
Row = tuple[str, str, str]
"""What, the figure, and the name of the results that it comes from."""
Results = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Put the table into the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    parser.add_argument("--readme", type=Path, default=Path(__file__).parent.parent / "README.md")
    path = parser.parse_args(arguments).readme
    path.write_text(placed(path.read_text(encoding="utf-8"), table(RESULTS)), encoding="utf-8")
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
    """Return the table of all results in a folder, and on what machine each was measured."""
    names = ("throughput", "agreement", "order", "scaling", "peers")
    found = {name: _read(folder / f"{name}.json") for name in names}
    rows = [
        *_throughput(found["throughput"]),
        *_agreement(found["agreement"]),
        *_order(found["order"]),
        *_scaling(found["scaling"]),
        *_peers(found["peers"]),
    ]
    lines = ["| what | figure | from |", "|---|---|---|"]
    for what, figure, name in rows:
        source = f"`benchmarks/results/{name}.json`" if found[name] else f"benchmarks.{name}"
        lines.append(f"| {what} | {figure} | {source} |")
    lines += ["", *_machines(found)]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value


def _throughput(results: Results) -> Iterator[Row]:
    """Yield cost and ratios by place, and the floor: `floor` is a contender of the same run."""
    name = "throughput"
    for place, one in (results or {"": {}}).items():
        at = f" on `{place}`" if place else ""
        contenders, ratios = one.get("contenders", {}), one.get("ratios", {})
        for contender in contenders or ("obvious", "same_evidence", "same_verdict", "floor"):
            cost = contenders.get(contender)
            figure = f"{cost['cpu_ms_per_picture']:,.1f} ms" if cost else NOT_MEASURED
            yield f"CPU time per picture, {_words(contender)}{at}", figure, name
        for ratio in ratios or ("obvious / same_evidence", "obvious / same_verdict", "same_verdict / floor"):
            value = ratios.get(ratio)
            figure = f"{value['ratio']:,.1f} ({_interval(value['bootstrap_95'], 1)})" if value else NOT_MEASURED
            yield f"ratio {_words(ratio)}{at}", figure, name
        for contender, cost in contenders.items():
            for screened, hits in (cost.get("screens") or {}).items():
                rate = f"{hits['hit_rate']:.1%} of {hits['seen']}"
                yield f"pictures that `{screened}` is spared by its screens, {_words(contender)}{at}", rate, name
        if shard := one.get("shard"):
            peak = " + ".join(f"{shard['peak_mib'][role]:,.0f}" for role in ROLES if shard["peak_mib"].get(role))
            yield f"whole shard, tar and ledger written{at}", f"{shard['cpu_ms_per_picture']:,.1f} ms a picture", name
            yield f"peak memory, worker + cell{at}", f"{peak} MiB", name


def _agreement(results: Results) -> Iterator[Row]:
    if not results:
        yield "verdicts equal to those of the obvious pipeline", NOT_MEASURED, "agreement"
        yield "verdicts equal with screens on and off", NOT_MEASURED, "agreement"
    for one in results.values():
        equal, sides = one["equal_verdicts"], [f"`{side}`" for side in one["sides"]]
        figure = f"{equal['hits']} of {equal['of']} ({_interval(equal['wilson_95'], 3)})"
        yield f"equal verdicts, {sides[0]} and {sides[1]}, on `{one['place']}`", figure, "agreement"


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

    yield "throughput, 2 cores over 1", shown(ratios.get("two_cores_over_one"), "{:.2f}"), "scaling"
    yield "CPU time, Ray over the local loop", shown(ratios.get("ray_overhead_percent"), "{:+.1f} %"), "scaling"
    for mode in ("local", "ray-1", "ray-2"):
        one = modes.get(mode, {})
        cost, peak = one.get("per_picture", {}), one.get("peak_mib", {})
        per_s, share = cost.get("pictures_per_core_second"), cost.get("scheduling_and_io_fraction")
        memory = peak and f"{peak['worker'] or peak['driver']:,.0f} + {peak['cell']:,.0f}"
        yield f"pictures per core-second, {mode}", shown(per_s, "{:,.2f}"), "scaling"
        yield f"scheduling and I/O, share of CPU time, {mode}", shown(share, "{:.1%}"), "scaling"
        yield f"peak memory, worker + cell, {mode}", f"{memory} MiB" if memory else NOT_MEASURED, "scaling"
        yield f"time to first picture, {mode}", shown(one.get("first_picture_s"), "{:.1f} s"), "scaling"


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
    """Yield on what each was measured: results of several parts carry a machine and a commit each."""
    for name, results in found.items():
        parts = [results] if "commit" in results else list(results.values())
        at = sorted({(one["machine"]["cpu"], one["commit"][:12]) for one in parts})
        for cpu, commit in at:
            yield f"`{name}`: {cpu}, commit {commit}{' with changes' if _is_dirty(parts, commit) else ''}.  "


def _is_dirty(parts: Sequence[Results], commit: str) -> bool:
    return any(one["commit"].startswith(commit) and one["commit"].endswith("-dirty") for one in parts)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _interval(bounds: Sequence[float], digits: int) -> str:
    return f"95 %: {bounds[0]:,.{digits}f} to {bounds[1]:,.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
