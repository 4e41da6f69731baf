"""What became of every URL of a part, and where the bytes lie that arrived."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from curation.commands.fetch.bodies import Arrival, Bodies, BodyPlace
from curation.commands.fetch.http import Answer
from curation.commands.fetch.opt_outs import OptOut
from curation.commands.fetch.politeness import HOST_BACKOFF, HOST_UNREACHABLE, PART_DEADLINE
from curation.commands.fetch.robots import ROBOTS_UNREACHABLE
from curation.commands.fetch.tdmrep import TDMREP_UNREACHABLE

LOST = "lost_by_downloader"
RETRYABLE = frozenset(
    {
        "dns",
        "timeout",
        "http_5xx",
        "http_408",
        "http_429",
        HOST_BACKOFF,
        HOST_UNREACHABLE,
        ROBOTS_UNREACHABLE,
        TDMREP_UNREACHABLE,
        LOST,
    }
)
"""Reasons that may pass: only these are asked for again."""
UNASKED = frozenset({HOST_BACKOFF, HOST_UNREACHABLE, PART_DEADLINE})
"""Reasons for which nobody was asked."""


@dataclass(frozen=True)
class UrlOutcome:
    """What became of one URL: the sha256 of the bytes that arrived, or why none did, and the server's evidence."""

    sha256: str | None
    reason: str | None
    message: str | None = None
    """Detail for a person; not stable."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    final_url: str | None = None
    opt_out: OptOut | None = None
    """Who does not want the picture used."""


class Downloads:
    """Outcomes in the order of the URLs, with access to the bytes that arrived."""

    def __init__(self, num_urls: int) -> None:
        """Know nothing yet of `num_urls` URLs."""
        self.outcomes = [UrlOutcome(None, LOST)] * num_urls
        self.num_asked: list[int] = []
        """URLs asked for in each pass."""
        self.seconds_waiting = 0.0
        """Spent between the passes, and in each of them on the last few URLs while most threads had nothing to do."""
        self._places: dict[int, tuple[Bodies, BodyPlace]] = {}
        self._num_attempts: Counter[int] = Counter()

    def settle(self, row: int, outcome: UrlOutcome, bodies: Bodies, place: BodyPlace | None) -> None:
        """Record what became of a row; that it was not asked for again does not replace what came of asking."""
        was_asked = self._num_attempts[row] > 0 and self.outcomes[row].reason not in UNASKED
        if not (was_asked and outcome.reason in UNASKED):
            self.outcomes[row] = outcome
        self._num_attempts[row] += outcome.reason != HOST_BACKOFF
        if place is not None:
            self._places[row] = (bodies, place)

    def pending(self, max_attempts: int) -> list[int]:
        """Return the rows that are worth asking for again; one that was put off for its host's sake was not asked."""
        return [
            row
            for row, outcome in enumerate(self.outcomes)
            if outcome.reason in RETRYABLE and self._num_attempts[row] < max_attempts
        ]

    @property
    def total_attempts(self) -> int:
        """How often rows were asked for in all."""
        return self._num_attempts.total()

    def num_attempts(self, row: int) -> int:
        """Return how often a row was asked for."""
        return self._num_attempts[row]

    def image_bytes(self, row: int) -> bytes:
        """Return the bytes that arrived for a row.

        Raises:
            ShardError: they are not those whose sha256 the outcome names.
        """
        bodies, place = self._places[row]
        return bodies.read(place)


def account(arrival: Arrival | None, answer: Answer) -> UrlOutcome:
    """Return what became of one URL: what img2dataset noted of it, if anything, and what the server answered."""
    place = None if arrival is None else arrival.place
    reason = None if place is not None else LOST if arrival is None else arrival.error or LOST
    evidence = answer.message, answer.status, answer.headers, answer.final_url, answer.opt_out
    return UrlOutcome(None if place is None else place.sha256, reason, *evidence)
