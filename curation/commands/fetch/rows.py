"""What becomes of one URL's bytes once they are here: fingerprint, withholding, ledger row, tar members."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.commands.fetch.download import UrlOutcome
from curation.commands.fetch.hash_lists import HashMatcher, matching
from curation.commands.fetch.opt_outs import OptOut
from curation.commands.rank.gates import is_unsafe, possible_minor
from curation.dataset.ledger import BASE_FIELDS, base_row
from curation.dataset.rights import RIGHTS_COLUMN, columns_in
from curation.dataset.stages import FETCH
from curation.dataset.tar import UNKNOWN_FORMAT, sample_members
from curation.images.containers import sniff_format
from curation.images.reservations import reservation_in
from curation.measure.cascade import QUARANTINE, Measured
from curation.measure.fingerprint import LOOK, contradicts, fingerprint
from curation.storage.publish import publish, publish_json

WITHHELD = "withheld"
WITHHELD_FOLDER = "withheld"
OPTED_OUT = "opted_out"
UNSAFE_MINOR = "unsafe_and_possible_minor"
OWNER_ONLY_FOLDER, OWNER_ONLY_FILE = 0o700, 0o600

LEDGER_SCHEMA = pa.schema(
    [
        *BASE_FIELDS,
        pa.field("status", pa.int32()),
        pa.field("headers", pa.string()),
        pa.field("final_url", pa.string()),
        pa.field("num_bytes", pa.int64()),
        pa.field("phash", pa.string()),
        pa.field("fetched_width", pa.int32()),
        pa.field("fetched_height", pa.int32()),
        pa.field("contradicts_size", pa.bool_()),
        pa.field("face_side", pa.float64()),
        pa.field("opt_out", pa.string()),
    ]
)
"""`width` and `height` are those of the crawl. `headers` is a JSON object of the response headers in
`http.KEPT_HEADERS`, null where no server answered. `opt_out` is one of where an opt-out stands, its value, the address
that said it, and the day; null where none was found. `face_side` is the shorter side of FaceCaption's largest box in
pixels of the fetched picture. Null where the decode gate refuses the file, or looking at it did harm: `phash` and all
that needs pixels."""


def is_unsafe_minor(row: Mapping[str, Any]) -> bool:
    """Return whether metadata calls an image unsafe, and its texts allow for a minor: such a one is never fetched."""
    if not is_unsafe(row["nsfw"], row["punsafe"]):
        return False
    return possible_minor(row["caption"], *(caption["caption"] for caption in json.loads(row["facecaptions"])))


def examined(
    row: Mapping[str, Any],
    outcome: UrlOutcome,
    image_bytes: bytes,
    matchers: Sequence[HashMatcher],
    seen: Measured | None,
    lay_aside: Callable[[str, bytes, str], None],
) -> dict[str, Any]:
    """Return the ledger's row of one URL; bytes that a hash list names are moved out of everybody's way first.

    `seen` is what looking at the bytes gave, None where there are none. `lay_aside` takes those that are listed: the
    uid, the bytes, the name of the list. A picture that cannot be looked at without harm is not kept, and while there
    is a list, no file that has no look is: no list could judge it. Without a list, what the decode gate refuses is
    kept, for `curate` to name.
    """
    if outcome.sha256 is None or seen is None:
        return _ledger_row(row, outcome, None, None)
    if matchers and (matched := matching(fingerprint(image_bytes, seen, outcome.sha256), matchers)) is not None:
        lay_aside(row["uid"], image_bytes, matched)
        return base_row(row["uid"], row["key"], rejected_by=FETCH.name, reason=WITHHELD)
    entry = _ledger_row(row, outcome, seen, len(image_bytes))
    if seen.refused is not None and (matchers or seen.refused.rejected_by == QUARANTINE):
        return entry | {"kept": False, "rejected_by": seen.refused.rejected_by, "reason": seen.refused.reason}
    if (found := reservation_in(image_bytes)) is not None:
        said = _opt_out(OptOut(found.where, found.value))
        return entry | {"kept": False, "rejected_by": FETCH.name, "reason": OPTED_OUT, "opt_out": said}
    return entry


def _opt_out(opt_out: OptOut | None) -> str | None:
    """Return the evidence of an opt-out as the ledger holds it, with today's date (UTC)."""
    if opt_out is None:
        return None
    said = {"where": opt_out.where, "value": opt_out.value, "source": opt_out.source}
    return json.dumps(said | {"date": datetime.now(UTC).date().isoformat()}, sort_keys=True)


def _ledger_row(
    row: Mapping[str, Any], outcome: UrlOutcome, seen: Measured | None, num_bytes: int | None
) -> dict[str, Any]:
    seen = None if seen is None or seen.refused is not None else seen
    fetched = None if seen is None or seen.width is None or seen.height is None else (seen.width, seen.height)
    crawled = row["width"], row["height"]
    side = _largest_face_side(row)
    return {
        **base_row(
            row["uid"],
            row["key"],
            url=row["url"],
            sha256=outcome.sha256,
            width=row["width"],
            height=row["height"],
            rejected_by=None if outcome.reason is None else FETCH.name,
            reason=outcome.reason,
        ),
        "status": outcome.status,
        "headers": None if outcome.status is None else json.dumps(dict(sorted(outcome.headers.items()))),
        "final_url": None if outcome.final_url is None else outcome.final_url.encode("utf-8", "replace").decode(),
        "num_bytes": num_bytes,
        "phash": None if seen is None else seen.evidence[LOOK].phash,
        "fetched_width": None if fetched is None else fetched[0],
        "fetched_height": None if fetched is None else fetched[1],
        "contradicts_size": contradicts(fetched, crawled),
        "face_side": None if fetched is None or side is None else side * max(fetched) / max(crawled),
        "opt_out": _opt_out(outcome.opt_out),
    }


def _largest_face_side(row: Mapping[str, Any]) -> int | None:
    boxes = [caption["box"] for caption in json.loads(row["facecaptions"]) if caption["box"] is not None]
    return max((min(box[2] - box[0], box[3] - box[1]) for box in boxes), default=None)


def withhold(target: Path, shard: str, uid: str, image_bytes: bytes, matched: str) -> None:
    """Lay bytes aside where only this user may read, with an incident record; nothing is shown, sent or deleted."""
    folder = target / WITHHELD_FOLDER
    folder.mkdir(mode=OWNER_ONLY_FOLDER, exist_ok=True)
    publish(folder / f"{uid}.withheld", lambda temp: _write_private(temp, image_bytes))
    incident = {"uid": uid, "shard": shard, "matched": matched, "time": time.time(), "num_bytes": len(image_bytes)}
    publish_json(folder / f"{uid}.json", incident)


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_FILE), "wb") as file:
        file.write(content)


def members(row: Mapping[str, Any], image_bytes: bytes, entry: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield the members of a picture that arrived and may be kept: its bytes, its metadata, its alt text."""
    metadata = json.dumps(_metadata(row, entry["sha256"]), sort_keys=True, ensure_ascii=False)
    image_format = sniff_format(image_bytes) or UNKNOWN_FORMAT
    return sample_members(row["key"], image_format, image_bytes, metadata.encode(), row["caption"])


def _metadata(row: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """Return the `.json` of a picture: what the selection knows of it, without nulls, and the sha256 of its bytes.

    What sources say of whose it is stands there under their own names.
    """
    known = {
        "uid": row["uid"],
        "url": row["url"],
        "sha256": sha256,
        "facecaptions": json.loads(row["facecaptions"]),
        "crawled_width": row["width"],
        "crawled_height": row["height"],
        "nsfw": row["nsfw"],
        "similarity": row["similarity"],
        "license": row["license"],
        "sample_id": row["sample_id"],
    }
    known |= {name: text for name, text in columns_in(row.get(RIGHTS_COLUMN)).items() if name not in known}
    return {name: value for name, value in known.items() if value is not None}
