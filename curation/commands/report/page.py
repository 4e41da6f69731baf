"""The report as one HTML file: no script, no address outside itself, every text escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from curation.commands.report.choice import reach_of
from curation.commands.report.contents import CASCADE, Report
from curation.commands.report.funnel import lay_out_funnel
from curation.commands.report.plots import lay_out_histogram
from curation.commands.report.sheets import format_limits, format_range, format_score
from curation.printable import joined
from curation.recipe.judge import KeepRange

NUM_UID_CHARACTERS = 10
NUM_LABEL_CHARACTERS = 15
SHEET_KINDS = ("kept", "near", "rejected")


def render(report: Report) -> str:
    """Return the page."""
    template = _environment().get_template("page.html.j2")
    return template.render(
        report=report,
        curated=report.curated.manifest,
        last=report.stages[-1],
        funnel=lay_out_funnel(report.stages, report.filter_names),
        plots=[(spread, lay_out_histogram(spread)) for spread in report.spreads],
        sheets={kind: [sheet for sheet in report.sheets if sheet.choice.kind == kind] for kind in SHEET_KINDS},
        reaches={spread.criterion.name: reach_of(spread) for spread in report.spreads},
        all_hold=all(check.holds for check in report.checks),
        digests=sorted({stage.manifest.recipe_digest for stage in report.stages}),
        settings={name: value for name, value in report.recipe.items() if isinstance(value, Mapping)},
        has_screens=report.has_screens,
        cascade=CASCADE,
    )


def _printable(value: Any) -> Any:
    """Return a text of the world without what would move the cursor of whoever copies it, or turn the line."""
    return joined(value.split("\n")) if type(value) is str else value


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda count: f"{count:,}"
    environment.filters["percent"] = _percent
    environment.filters["px"] = lambda length: f"{length:.2f}".rstrip("0").rstrip(".")
    environment.filters["short"] = _short
    environment.filters["plain"] = _plain
    environment.filters["score"] = format_score
    environment.filters["keeps"] = format_range
    environment.filters["limits"] = format_limits
    environment.filters["range"] = lambda keep: format_limits(KeepRange.model_validate(keep))
    environment.globals["uid_characters"] = NUM_UID_CHARACTERS
    environment.globals["label_characters"] = NUM_LABEL_CHARACTERS
    return environment


def _percent(part: float, whole: float = 1.0) -> str:
    """Return a share as a percentage that is never rounded to none or all while it is neither."""
    if not whole:
        return "none"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.1f} %"


def _short(text: str, num_characters: int) -> str:
    return text if len(text) <= num_characters else text[: num_characters - 1] + "…"


def _plain(value: Any) -> str:
    """Return a setting as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(entry) for entry in value) or "none"
    return str(value)
