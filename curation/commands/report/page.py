"""The report as one HTML file: one script that its policy names by hash, no address outside, every text escaped."""

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from curation.commands.report.contents import CASCADE, Report
from curation.commands.report.flow import straight
from curation.commands.report.funnel import lay_out_funnel
from curation.commands.report.plots import lay_out_histogram
from curation.commands.report.sheets import Tile, format_limits, format_range, format_score
from curation.measure.meanings import about, meaning_of
from curation.printable import joined
from curation.recipe.judge import KeepRange

NUM_UID_CHARACTERS = 10
NUM_LABEL_CHARACTERS = 15
SHEET_KINDS = ("kept", "near", "rejected", "changed")


def render(report: Report) -> str:
    """Return the page."""
    template = _environment().get_template("page.html.j2")
    stages = straight(report.stages)
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    return template.render(
        report=report,
        curated=report.curated.manifest,
        last=stages[-1],
        funnel=lay_out_funnel(stages, report.filter_names),
        plots=[(spread, lay_out_histogram(spread)) for spread in report.spreads],
        sheets={kind: [sheet for sheet in report.sheets if sheet.choice.kind == kind] for kind in SHEET_KINDS},
        reaches={spread.criterion.name: spread.reach for spread in report.spreads},
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        meaning_of=meaning_of,
        about=about,
        makings={making.stage: making for making in report.makings},
        score_names=sorted({one.name for sheet in report.sheets for tile in sheet.tiles for one in tile.scores}),
        reasons=sorted({(t.rejected_by, t.reason) for sheet in report.sheets for t in sheet.tiles if t.reason}),
        all_hold=all(check.holds for check in report.checks),
        digests=sorted({stage.manifest.recipe_digest for stage in report.stages}),
        settings={name: value for name, value in report.recipe.items() if isinstance(value, Mapping)},
        has_screens=report.has_screens,
        screened=[
            stanza["name"] for stanza in report.recipe["filters"] if report.has_screens and stanza.get("screens")
        ],
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
    environment.filters["counted"] = lambda count, noun: f"{count:,} {noun}{'' if count == 1 else 's'}"
    environment.filters["percent"] = _percent
    environment.filters["px"] = lambda length: f"{length:.2f}".rstrip("0").rstrip(".")
    environment.filters["short"] = _short
    environment.filters["quoted"] = shlex.quote
    environment.filters["duration"] = _duration
    environment.filters["score_data"] = _score_data
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


def _duration(seconds: float) -> str:
    """Return a time in hours, minutes and seconds, as few of them as say enough."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{seconds:.1f} s" if seconds < 10 else f"{left} s"


def _score_data(tile: Tile) -> str:
    """Return a tile's scores as JSON for the script that filters by them."""
    return json.dumps({one.name: one.score for one in tile.scores if one.score is not None and isfinite(one.score)})


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
