"""The table as one page with its pictures side by side: no script, no address outside itself, every text escaped."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageOps

from curation.printable import joined
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.protocol import ABOUT
from facemakeup.evaluation.table import Table, notes, places, tell_score

MAX_SHOWN = 24
THUMBNAIL_PX = 256
QUALITY = 85


@dataclass(frozen=True)
class ShownPictures:
    """One column of pictures, in the order of the cases."""

    name: str
    pictures: Sequence[Path | Failure]
    prompts: Sequence[str] = ()


@dataclass(frozen=True)
class PageTile:
    """One picture on the page, or why there is none."""

    data: str | None
    reason: str


def render(table: Table, shown: Sequence[ShownPictures]) -> str:
    """Return the page; of many cases, `MAX_SHOWN` are shown, evenly chosen."""
    num = len(table.identities)
    chosen = sorted({number * num // min(num, MAX_SHOWN) for number in range(min(num, MAX_SHOWN))})
    prompts = next((column.prompts for column in shown if column.prompts), ())
    rows = [
        (table.identities[number], prompts[number] if prompts else "", [_tile(c.pictures[number]) for c in shown])
        for number in chosen
    ]
    scored = [{cell.column: cell for cell in row.cells} for row in table.rows]
    return _environment().get_template("page.html.j2").render(
        table=table,
        about=ABOUT[table.protocol],
        scored=scored,
        places=places(table),
        facts=list(dict.fromkeys(name for row in table.rows for name in row.facts)),
        notes=notes(table),
        names=[column.name for column in shown],
        rows=rows,
        num_cases=num,
    )  # fmt: skip


def _tile(picture: Path | Failure) -> PageTile:
    if isinstance(picture, Failure):
        return PageTile(None, picture.reason)
    try:
        with Image.open(picture) as opened:
            small = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, Image.DecompressionBombError):
        return PageTile(None, "unreadable")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY)
    return PageTile(base64.b64encode(file.getvalue()).decode("ascii"), "")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = tell_score
    environment.filters["short"] = lambda value: "-" if value is None else f"{value:.4g}"
    return environment


def _printable(value: Any) -> Any:
    """Return a text of the world without what would move the cursor of whoever copies it, or turn the line."""
    return joined(value.split("\n")) if type(value) is str else value
