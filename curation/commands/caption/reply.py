"""What comes back when a model is asked about one picture, and whoever can be asked."""

import threading
from dataclasses import dataclass
from typing import Protocol

from curation.errors import ShardError

MAX_STORED_CHARACTERS = 8192
"""What of a reply is stored; `num_reply_characters` says how long it was."""
MAX_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class Reply:
    """One answer, or why there is none."""

    text: str | None = None
    """As it came, but for lone surrogates, which become question marks; None where nothing that is a text came."""
    fault: str | None = None
    """Why there is no text: `connection`, `timeout`, `http_4xx` and the like, `bad_answer`, `answer_too_large`, ..."""
    answered_by: str | None = None
    """What the server says its model is."""
    finish_reason: str | None = None
    """`stop`, or `length` where the reply was cut."""
    num_requests: int = 0
    """How often the picture was asked about."""


class NobodyThereError(ShardError):
    """Whoever is asked refuses every picture alike, so a shard cannot be done: it says what to mend."""


class Asker(Protocol):
    """Who writes captions."""

    @property
    def num_at_once(self) -> int:
        """How many pictures it may be asked about at a time."""
        ...

    def ask(self, picture: bytes) -> Reply:
        """Return what it says of a JPEG.

        Raises:
            NobodyThereError: it would say the same of every picture: that it does not answer us.
        """
        ...

    def close(self) -> None:
        """End what is under way, without its reply, and let go of connections."""
        ...


class Budget:
    """How many requests more than one for each picture a shard may make; threads share it."""

    def __init__(self, num: int) -> None:
        """Begin with this many."""
        self._left, self._lock = num, threading.Lock()

    def take(self) -> bool:
        """Take one, and return whether any was left."""
        with self._lock:
            had_any = self._left > 0
            self._left -= had_any
            return had_any


def storable(text: str) -> str:
    """Return a text that Parquet can hold: lone surrogates of hostile JSON become question marks."""
    return text.encode("utf-8", "replace").decode()
