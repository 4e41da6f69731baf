"""The ledger of `caption`: one row for every picture that `curate` kept, with the reply as it came and the verdict."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from curation.commands.caption.checks import digest_of, fault_of, same_for_many
from curation.commands.caption.reply import MAX_STORED_CHARACTERS, Reply
from curation.dataset.ledger import BASE_FIELDS, base_row
from curation.dataset.stages import CAPTION
from curation.dataset.tombstones import hashed
from curation.recipe.captioning import CaptionChecks, CaptioningSettings

SAME_FOR_MANY = "same_for_many"
PROVENANCE = (
    pa.field("caption_model", pa.string()),
    pa.field("caption_revision", pa.string()),
    pa.field("caption_prompt_sha256", pa.string()),
    pa.field("caption_time", pa.string()),
)
"""Columns that say where a new caption comes from; `pack` carries them on."""
REPLY_FIELDS = (
    pa.field("reply", pa.string()),
    pa.field("num_reply_characters", pa.int32()),
    pa.field("finish_reason", pa.string()),
    pa.field("answered_by", pa.string()),
    pa.field("num_requests", pa.int32()),
    *PROVENANCE,
)
HAS_CAPTION = pa.field("has_caption", pa.bool_())
LEDGER_SCHEMA = pa.schema([*BASE_FIELDS, *REPLY_FIELDS, HAS_CAPTION])
IDENTITY = ("uid", "key", "url", "sha256", "width", "height")
Row = Mapping[str, Any]


def reply_columns(reply: Reply, settings: CaptioningSettings) -> dict[str, Any]:
    """Return what a row says of a reply that has just come."""
    text = reply.text
    return {
        "reply": None if text is None else text[:MAX_STORED_CHARACTERS],
        "num_reply_characters": None if text is None else len(text),
        "finish_reason": reply.finish_reason,
        "answered_by": reply.answered_by,
        "num_requests": reply.num_requests,
        "caption_model": settings.model,
        "caption_revision": settings.revision,
        "caption_prompt_sha256": hashed(settings.prompt),
        "caption_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def judged(
    curated: Sequence[Row], replies: Sequence[Row], faults: Sequence[str | None], checks: CaptionChecks
) -> list[dict[str, Any]]:
    """Return a shard's rows: each picture's identity, its reply, and whether that is fit, in the order given.

    `faults` say why there is no reply. What a row says depends on these alone, so it can be judged anew at any time.
    """
    reasons = [
        fault or fault_of(reply, row, checks) for row, reply, fault in zip(curated, replies, faults, strict=True)
    ]
    digests = [None if reason else digest_of(reply["reply"]) for reply, reason in zip(replies, reasons, strict=True)]
    many = same_for_many(digests, checks.max_same)
    reasons = [SAME_FOR_MANY if digest in many else reason for reason, digest in zip(reasons, digests, strict=True)]
    return [_row(row, reply, reason) for row, reply, reason in zip(curated, replies, reasons, strict=True)]


def _row(curated: Row, reply: Row, reason: str | None) -> dict[str, Any]:
    by = None if reason is None else CAPTION.name
    base = base_row(**{name: curated[name] for name in IDENTITY}, rejected_by=by, reason=reason)
    return {**base, **{field.name: reply[field.name] for field in REPLY_FIELDS}, HAS_CAPTION.name: reason is None}
