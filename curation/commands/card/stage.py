"""The card of a pack: the published table, `README.md`, `croissant.json`, and last `card.json`, which holds each query.

All of it follows from the ledgers and from what was stated, so that a card is checked by making it once more.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.commands.card import wording
from curation.commands.card.collection import collected, kind_of_source, whence
from curation.commands.card.croissant import croissant
from curation.commands.card.differences import json_differences, line_differences
from curation.commands.card.ledgers import opened
from curation.commands.card.markdown import Safe, render
from curation.commands.card.numbers import NUMBERS, Values
from curation.commands.card.origin import Origin, origin_of
from curation.commands.card.samples import write_samples
from curation.commands.card.statements import STATED, Statements, stated_in
from curation.commands.verify.faults import Fault
from curation.dataset.stages import CARD_NAME, CARD_VALUES_NAME, CROISSANT_NAME, SAMPLES_PATH
from curation.errors import UsageError
from curation.run.derived import CARD, register
from curation.storage.publish import (
    TEMP_FOLDER,
    FileRecord,
    json_bytes,
    publish_alone,
    read_sealed,
    record_of,
    sealed_bytes,
)
from curation.storage.scratch import scratch_folder
from curation.version import CODE_VERSION

SCHEMA_VERSION = 1
TAKEDOWNS = "takedowns"
"""Key of `card.json`: the digest of every tombstone that was heeded."""
PIXELS_FOLDER = "pixels"
SERIES = re.compile(r"(?:(?P<format>[a-z0-9]+)-)?\d+")
ARTICLE = "53(1)(d) of Regulation (EU) 2024/1689"
COMMUNITY = "the Community tab of this repository"
AGENT = "user_agent_token"
SIGN = "<!-- Written by `facecaptionhq card`"
"""Stands in every `README.md` of ours."""


@dataclass(frozen=True)
class Card:
    """A card as it was made."""

    folder: Path
    origin: Origin
    statements: Statements
    values: Values
    files: Mapping[str, FileRecord]
    """Data to publish, by path in the repository."""
    takedowns: str | None = None
    """Digest of the tombstones that were heeded; None where the run is not known."""


def write_card(folder: Path, out: Path, statements: Statements, run: Path | None = None) -> Card:
    """Write the card of a pack, or of a run's pack, into `out`; nothing but `statements` and the ledgers is in it.

    The folder leaves its own card at the pack, by which `forget` finds it.

    Raises:
        UsageError: there is no such pack, or `out` holds something else than a card.
        ShardError, VerificationError: a ledger or a tar is not what the manifest names.
    """
    _require_own(out)
    origin = origin_of(folder, run)
    register(origin.pack.folder, out, CARD, origin.manifest.state)
    return make_card(origin, out, statements)


def make_card(origin: Origin, out: Path, statements: Statements) -> Card:
    """Write the card of a pack into a folder, its values last."""
    schema: list[pa.Schema] = []
    (out / SAMPLES_PATH).parent.mkdir(parents=True, exist_ok=True)
    record = publish_alone(out / SAMPLES_PATH, lambda temp: schema.append(write_samples(origin, temp)))
    with opened(origin, out / SAMPLES_PATH) as ledgers:
        values = {name: ledgers.ask(number) for name, number in NUMBERS.items()}
        digests, takedowns = ledgers.digests, ledgers.takedowns
    files = {SAMPLES_PATH: record, **(_tars(origin) if statements.form == "pixels" else {})}
    readme = render(**_shown(origin, statements, values, files))
    described = croissant(statements, values, files, collected(origin), schema[0], SAMPLES_PATH, origin)
    told = sealed_bytes(_told(origin, statements, values, files, digests) | {TAKEDOWNS: takedowns})
    publish_alone(out / CARD_NAME, lambda temp: temp.write_text(readme, encoding="utf-8"))
    publish_alone(out / CROISSANT_NAME, lambda temp: temp.write_bytes(json_bytes(described)))
    publish_alone(out / CARD_VALUES_NAME, lambda temp: temp.write_bytes(told))
    return Card(out, origin, statements, values, files, takedowns)


def check_card(folder: Path, out: Path, run: Path | None = None) -> tuple[Fault, ...]:
    """Make a card once more from what it states, and return every difference to the one in `out`.

    Raises:
        UsageError: there is no card, or no such pack.
        VerificationError: the card's values, or a ledger, are not as they were written.
    """
    statements, origin = stated_in(out), origin_of(folder, run)
    with scratch_folder("card") as fresh:
        make_card(origin, fresh, statements)
        return tuple(_differences(out, fresh))


def _differences(old: Path, new: Path) -> Iterator[Fault]:
    yield from json_differences(CARD_VALUES_NAME, _but_queries(old), _but_queries(new))
    for name in (CARD_NAME, CROISSANT_NAME, SAMPLES_PATH):
        if not (old / name).is_file():
            yield Fault(name, "missing", "what the ledgers give: make the card again")
        elif record_of(old / name) != record_of(new / name):
            yield from _within(name, old / name, new / name)


def _within(name: str, old: Path, new: Path) -> Iterable[Fault]:
    if name == SAMPLES_PATH:
        return (Fault(name, "another table", "that of the pack as it is now: make the card again"),)
    told, right = (path.read_text(encoding="utf-8", errors="replace") for path in (old, new))
    try:
        found = tuple(json_differences(name, json.loads(told), json.loads(right))) if name == CROISSANT_NAME else ()
    except (ValueError, RecursionError):
        found = ()
    return found or line_differences(name, told, right)


def _but_queries(folder: Path) -> dict[str, Any]:
    """Return the values of a card with each number by its name."""
    values = read_sealed(folder / CARD_VALUES_NAME)
    return values | {"numbers": {number["name"]: number["value"] for number in values["numbers"]}}


def _told(
    origin: Origin, statements: Statements, values: Values, files: Mapping[str, FileRecord], digests: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "code_version": CODE_VERSION,
        "state": origin.manifest.state,
        "recipe_name": origin.manifest.recipe_name,
        "recipe_digest": origin.manifest.recipe_digest,
        "stages": [place.stage for place in origin.stages],
        STATED: statements.model_dump(mode="json"),
        "ledgers": dict(sorted(digests.items())),
        "files": {path: vars(record) for path, record in sorted(files.items())},
        "numbers": [
            {"name": name, "value": values[name], "query": number.query} for name, number in NUMBERS.items()
        ],
    }  # fmt: skip


def _shown(origin: Origin, statements: Statements, values: Values, files: Mapping[str, FileRecord]) -> dict[str, Any]:
    manifest = origin.manifest
    contact = statements.contact or (f"{COMMUNITY}, {statements.address}/discussions" if statements.repo else COMMUNITY)
    return {
        "n": values,
        "stated": statements,
        "wording": wording,
        "collected": collected(origin),
        "whence": whence(origin),
        "kind_of_source": kind_of_source(origin),
        "law": {"article": ARTICLE},
        "title_json": _quoted(statements.title),
        "repo_json": _quoted(statements.repo or "NAMESPACE/NAME"),
        "sign": Safe(SIGN),
        "configs": [config | {"path_json": _quoted(config["path"])} for config in _configs(files)],
        "contact": contact,
        "crawler": manifest.recipe.get("fetch", {}).get(AGENT, "not known"),
        "state": manifest.state,
        "recipe_name": manifest.recipe_name,
        "recipe_digest": manifest.recipe_digest,
        "code_version": CODE_VERSION,
    }


def _quoted(text: str) -> Safe:
    return Safe(json.dumps(text))


def _configs(files: Mapping[str, FileRecord]) -> list[dict[str, str]]:
    """Return one configuration per series of tars; where there is none, that of the table.

    `datasets` reads all configurations of a repository by one reader, so tars and a table do not go together.
    """
    tars = (path.rpartition("/")[2] for path in files if path.endswith(".tar"))
    series = sorted({(found["format"] or "") for tar in tars if (found := SERIES.match(tar))})
    return [
        {
            "name": name or "default",
            "path": f"{PIXELS_FOLDER}/{name}-*.tar" if name else f"{PIXELS_FOLDER}/*.tar",
            "what": "WebDataset tars: picture (`jpg`, whatever its format), metadata (`json`) and caption (`txt`)",
        }
        for name in series
    ] or [{"name": "default", "path": "data/*.parquet", "what": "a row for every sample, without its picture"}]


def _tars(origin: Origin) -> dict[str, FileRecord]:
    records = {name: record for report in origin.manifest.shards for name, record in report.files.items()}
    return {f"{PIXELS_FOLDER}/{name}": record for name, record in records.items() if name.endswith(".tar")}


def _require_own(out: Path) -> None:
    if out.exists() and not (out.is_dir() and _is_own(out)):
        raise UsageError(f"{out}: holds something else than a card; name a new folder, or one that a card lies in")


def _is_own(out: Path) -> bool:
    """Whether a folder is empty, or holds a card, or what is there of one that was not finished."""
    names, readme = {path.name for path in out.iterdir()}, out / CARD_NAME
    if CARD_VALUES_NAME in names or not names:
        return True
    is_begun = names <= {TEMP_FOLDER, CARD_NAME, CROISSANT_NAME, SAMPLES_PATH.partition("/")[0]}
    return is_begun and (not readme.exists() or SIGN in readme.read_text(encoding="utf-8", errors="replace"))
