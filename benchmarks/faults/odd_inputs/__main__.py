"""Sends inputs that nobody chose through the commands that read them: are all rows accounted for?

    python -m benchmarks.faults.odd_inputs [--count 1000] [--seed 0] [--kinds tars,tables,lists,urls] [--out JSON]

Exit code 0 where every row of every input was kept, rejected by reason, counted as a fault, or refused with a clear
error, and nothing but those errors was raised; else 1.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from benchmarks.faults.odd_inputs.case import Case, Kind
from benchmarks.provenance import RESULTS, commit, machine
from curation.errors import FaceCaptionError

KINDS = ("tars", "tables", "lists", "urls")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its figures."""
    options = _options(arguments)
    names = options.kinds.split(",")
    kinds = {name: _kind(name) for name in names}
    shares = _shares(options.count, names)
    started = time.monotonic()
    by_kind = {name: _run(kind, shares[name], options.seed) for name, kind in kinds.items()}
    is_good = not any(figures["unequal"] or figures["crashes"] for figures in by_kind.values())
    result = {
        "campaign": {"count": options.count, "seed": options.seed},
        "is_good": is_good,
        "kinds": by_kind,
        "wall_seconds": round(time.monotonic() - started, 1),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if is_good else 1


def _kind(name: str) -> Kind:
    """Import the module of a kind.

    Raises:
        SystemExit: there is none of that name.
    """
    module = f"benchmarks.faults.odd_inputs.{name}"
    try:
        return cast("Kind", import_module(module))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        sys.exit(f"{module}: no such kind of odd input; the choices are {', '.join(KINDS)}")


def _shares(count: int, names: Sequence[str]) -> dict[str, int]:
    """Return how many inputs each kind gives, as evenly as can be."""
    return {name: count // len(names) + (number < count % len(names)) for number, name in enumerate(names)}


def _run(kind: Kind, count: int, seed: int) -> dict[str, Any]:
    """Return the figures of one kind: its rows, the inputs whose rows are not all accounted for, and what crashed."""
    num_inputs = num_in = num_accounted = num_refused = 0
    unequal: dict[str, list[int]] = {}
    crashes: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="odd-inputs-") as folder:
        for case in kind.cases(count, seed, Path(folder)):
            accounted, crash, is_refused = _account(case)
            num_inputs += 1
            num_in += case.rows_in
            num_accounted += accounted
            num_refused += is_refused
            if crash is not None:
                crashes[case.name] = crash
            elif accounted != case.rows_in:
                unequal[case.name] = [case.rows_in, accounted]
    return {
        "inputs": num_inputs,
        "rows_in": num_in,
        "rows_accounted": num_accounted,
        "refused": num_refused,
        "unequal": unequal,
        "crashes": crashes,
    }


def _account(case: Case) -> tuple[int, str | None, bool]:
    """Return the rows that a case accounts for, what it crashed with, and whether it was refused as a whole."""
    try:
        return case.account(), None, False
    except FaceCaptionError as error:
        is_refusal = error.exit_code not in (0, FaceCaptionError.exit_code)
        return (case.rows_in, None, True) if is_refusal else (0, repr(error), False)
    except Exception as error:  # noqa: BLE001  what nobody foresaw is what this campaign looks for
        return 0, f"{error!r} at {traceback.extract_tb(error.__traceback__)[-1]}", False


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--out", type=Path, default=RESULTS / "odd_inputs.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
