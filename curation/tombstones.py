"""What was forgotten, as hashes only, and the one rule by which every stage keeps it out for good.

`RUN/forgotten/tombstones.json` names forgotten images by the sha256 of their normalised URL, of their content's
sha256, and of domains (which stand for their subdomains too). A stage asks for those of the run its target lies in.
"""

from collections.abc import Mapping
from typing import Any

FORGOTTEN_FOLDER = "forgotten"
"""Lies in the run, beside the stages' folders."""
TOMBSTONES_NAME = "tombstones.json"
JOURNAL_NAME = "journal.json"
"""Lies there while a `forget` is changing the run; whoever runs it again completes it."""
PREPARED_FOLDER = "prepared"
FORGET = "forget"
"""Who rejects what was forgotten."""
FORGOTTEN = "forgotten"
"""The reason."""


def is_buried(row: Mapping[str, Any]) -> bool:
    """Whether a row says nothing any more of what it was."""
    return row["rejected_by"] == FORGET and not row["key"] and row["url"] is None and row["sha256"] is None
