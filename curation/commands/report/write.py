"""One static page that accounts for every sample of a run, and the same numbers as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from curation.commands.report.contents import NOTHING_ASKED, ReportOptions, read_report, report_values
from curation.commands.report.origins import find_origin
from curation.commands.report.page import render
from curation.dataset.stages import CURATE
from curation.errors import UsageError
from curation.storage.paths import location
from curation.storage.publish import publish, publish_json

PAGE_NAME = "index.html"
VALUES_NAME = "report.json"


def write_report(run: Path, asked: ReportOptions = NOTHING_ASKED) -> Path:
    """Write `report/index.html` and `report/report.json` into a run's folder and return the page's path.

    Both depend on the run and on what is asked alone: no clock, no host but those that the run's records name. The
    stages `rank`, `fetch` and `pack` are reported where they are finished; `curate` must be. Pictures of rejected
    samples are read from what was curated.

    Raises:
        UsageError: there is no finished `curate` in the run, or in the one that it is to be held against.
        ShardError: a ledger that a manifest names cannot be read.
        VerificationError: a shard's own counts do not add up.
    """
    if not (run / CURATE.name).is_dir():
        raise UsageError(f"{run}: holds no folder `curate`; give the folder that holds rank, fetch, curate and pack")
    report = read_report(run, asked)
    page = render(report)
    target = run / "report"
    publish_json(target / VALUES_NAME, report_values(report))
    publish(target / PAGE_NAME, lambda temp: _write(temp, page))
    return target / PAGE_NAME


def asked_of(folder: Path) -> ReportOptions:
    """Return what was asked of the report in a folder; nothing where it does not say so, or is not one of ours."""
    asked = _values(folder).get("asked")
    try:
        return TypeAdapter(ReportOptions).validate_python(asked, strict=True)
    except ValidationError:
        return NOTHING_ASKED


def lost_since(run: Path) -> str | None:
    """Return what the report of a run was made with and is not to be found any more; None where all is there."""
    asked = asked_of(run / "report")
    for place in (asked.source, asked.against):
        if place is not None and not location(place).exists():
            return f"{place} is not there any more"
    if _values(run / "report").get("has_source") and find_origin(run, None).folder is None and asked.source is None:
        return "what was curated is not where it was"
    return None


def _values(folder: Path) -> Mapping[str, Any]:
    try:
        values = json.loads((folder / VALUES_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
