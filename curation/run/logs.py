"""Structured logs: one JSON object per line, for machines that watch a run; people have the progress bar."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from curation.dataset.manifest import ShardReport
from curation.run.runner import Outcome

STDERR = "-"
shards_log = logging.getLogger("curation.shards")
shards_log.propagate = False  # people are told by the progress, and nobody twice
shards_log.addHandler(logging.NullHandler())


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, logger, message, then whatever `extra={"fields": ...}` held."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True, default=str)


@contextmanager
def json_log(where: str | None) -> Iterator[None]:
    """Send one line per shard, and every warning, to the end of a file or (`-`) to stderr, until the block ends."""
    if where is None:
        yield
        return
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr) if where == STDERR else logging.FileHandler(Path(where), "a", "utf-8")
    handler.setFormatter(JsonLines())
    before = root.handlers[:], shards_log.level
    root.handlers[:] = [handler] if where == STDERR else [*root.handlers, handler]
    shards_log.addHandler(handler)
    shards_log.setLevel(logging.INFO)
    try:
        yield
    finally:
        shards_log.removeHandler(handler)
        root.handlers[:], shards_log.level = before
        handler.close()


def log_outcome(stage: str, outcome: Outcome) -> None:
    """Write the line of one shard."""
    if isinstance(outcome, ShardReport):
        fields = {
            "stage": stage,
            "shard": outcome.shard,
            "num_seen": outcome.num_seen,
            "num_kept": outcome.num_kept,
            "rejected": outcome.rejected,
            "num_bytes": sum(record.num_bytes for record in outcome.files.values()),
            "work_id": outcome.work_id,
            **{name: outcome.run[name] for name in ("seconds", "host", "pid", "quarantined") if name in outcome.run},
        }
        shards_log.info("shard committed", extra={"fields": fields})
    else:
        fields = {"stage": stage, "shard": outcome.shard, "error": outcome.error, "is_bug": outcome.is_bug}
        shards_log.error("shard failed", extra={"fields": fields})
