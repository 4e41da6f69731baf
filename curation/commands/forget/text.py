"""What a takedown did, or would do, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.commands.forget.takedowns import Request
from curation.printable import counted, joined, printable


def tell(path: Path, receipt: Mapping[str, Any]) -> str:
    """Return the counts of a receipt, and last where it lies; no plain address is in it."""
    num_found = sum(answer["num_images"] > 0 for answer in receipt["requests"])
    asked, gone = counted(len(receipt["requests"]), "request"), counted(receipt["num_images"], "image")
    elsewhere = f", {len(receipt['elsewhere'])} elsewhere" if receipt.get("elsewhere") else ""
    return joined(
        (
            f"{asked}, {num_found} of them found: {gone}",
            f"{counted(len(receipt['rewritten']), 'file')} rewritten, {len(receipt['deleted'])} deleted{elsewhere}",
            str(path),
        )
    )


def foretell(requests: Sequence[Request], forecast: Mapping[str, Any]) -> str:
    """Return what would go: every request with what it names, and the uids."""
    rows = ", ".join(f"{number} in {stage}" for stage, number in forecast["rows_buried"].items())
    lines = [
        f"{_named(request)}: {counted(answer['num_images'], 'image')}"
        for request, answer in zip(requests, forecast["requests"], strict=True)
    ]
    lines += [f"{folder}: {counted(num_rows, 'row')}" for folder, num_rows in forecast["places"].items()]
    lines += [f"{folder}/{file}: holds one" for folder, files in forecast["copies"].items() for file in files]
    lines += [f"would forget {uid}" for uid in forecast["uids"]]
    return joined(
        [*lines, f"would forget {counted(forecast['num_images'], 'image')}: rows to bury: {rows}; nothing was written"]
    )


def not_found(requests: Sequence[Request], answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for every request that names nothing here and never did; only for whoever wrote the list."""
    for request, answer in zip(requests, answers, strict=True):
        if not answer["num_images"] and not answer["forgotten_before"]:
            yield f"{_named(request)}: found nothing"


def not_reached(places: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for every place where an image may still be."""
    for place, why in places.items():
        yield printable(f"{place}: not reached: {why}")


def _named(request: Request) -> str:
    return printable(f"line {request.line}: {request.shown} ({request.kind})")
