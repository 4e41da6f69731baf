"""One static page that accounts for every sample of a run, and the same numbers as JSON."""

from pathlib import Path

from curation.commands.report.contents import read_report, report_values
from curation.commands.report.page import render
from curation.dataset.stages import CURATE
from curation.errors import UsageError
from curation.storage.publish import publish, publish_json

PAGE_NAME = "index.html"
VALUES_NAME = "report.json"


def write_report(run: Path) -> Path:
    """Write `report/index.html` and `report/report.json` into a run's folder and return the page's path.

    Both depend on the run alone: no clock, no host. The stages `rank`, `fetch` and `pack` are reported where they
    are finished; `curate` must be. Pictures of rejected samples are read from `fetch`.

    Raises:
        UsageError: there is no finished `curate` in the run.
        ShardError: a ledger that a manifest names cannot be read.
        VerificationError: a shard's own counts do not add up.
    """
    if not (run / CURATE.name).is_dir():
        raise UsageError(f"{run}: holds no folder `curate`; give the folder that holds rank, fetch, curate and pack")
    report = read_report(run)
    page = render(report)
    target = run / "report"
    publish_json(target / VALUES_NAME, report_values(report))
    publish(target / PAGE_NAME, lambda temp: _write(temp, page))
    return target / PAGE_NAME


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
