"""The gates before any download: what metadata alone forbids, as one ordered list of conditions over joined images.

The rule on possible minors and the blocklists cannot be switched off by a recipe.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.commands.importing.safety import NSFW, UNKNOWN, UNSURE, word_of
from curation.dataset.lists import read_entries, read_lines
from curation.dataset.tombstones import hashed
from curation.dataset.urls import above, host_of

if TYPE_CHECKING:
    import duckdb

    from curation.recipe.settings import GateSettings, RankSettings

RANK_KEYS = {
    "image_area": "area",
    "face_side": "face_side",
    "face_area": "face_area",
    "mix": "sqrt(face_side * sqrt(area))",
}
"""The recipe's key -> an expression over joined images; the larger ranks first, null cannot be ranked."""

UNSAFE_WORDS = (NSFW, UNKNOWN, UNSURE)
UNSAFE_PROBABILITY = 0.2
MINOR_WORDS = (
    "child|children|childhood|kid|kids|minor|minors|underage|preteen|pre-teen|tween|teen|teens|teenage|teenager|"
    "teenagers|toddler|toddlers|infant|infants|baby|babies|newborn|boy|boys|girl|girls|schoolgirl|schoolgirls|"
    "schoolboy|schoolboys|juvenile|adolescent|adolescents|kindergarten|loli|lolita|shota|daughter|son|"
    "young boy|young girl|little one|high school|middle school|elementary school"
)
MINOR_AGE = r"(1[0-7]|[0-9])[ -]?(yo|y/o|yrs?|years?)([ -]?olds?)?"
MINOR_PATTERN = rf"\b({MINOR_WORDS})\b|(^|[^0-9.]){MINOR_AGE}\b"
"""Words that make a minor possible: read generously, since a miss costs more than a picture."""

BLOCKLIST_KINDS = ("url", "domain", "md5", "sha256")
BLOCKED_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("kind", "sha256")])
HEX_DIGESTS = (32, 64)
SAFETY_GATES = WORD_GATE, CHANCE_GATE = ("nsfw", "max_punsafe")
"""The two halves of the gate of safety: what it judges by words, and by probabilities."""
SAYS_NOTHING = "(nsfw IS NULL AND punsafe IS NULL)"


@dataclass(frozen=True)
class Blocklist:
    """Addresses, domains with all their subdomains, and hex hashes of bytes that are never to be fetched.

    Hosts are in ASCII; an address stands for every spelling of it (`curation.dataset.urls`).
    """

    addresses: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """Names the content."""
        return hashlib.sha256(
            repr([sorted(part) for part in (self.addresses, self.domains, self.hashes)]).encode()
        ).hexdigest()

    def table(self) -> pa.Table:
        """Return `kind` (`address` or `domain`) and `sha256` of what a fetch must not follow a redirect to."""
        listed = [("address", name) for name in self.addresses] + [("domain", name) for name in self.domains]
        rows = sorted((kind, hashed(name)) for kind, name in listed)
        return pa.Table.from_pylist([dict(zip(BLOCKED_SCHEMA.names, row, strict=True)) for row in rows], BLOCKED_SCHEMA)


def read_blocklist(files: Iterable[Path]) -> Blocklist:
    """Read blocklists: one URL, domain or hex digest per line; empty lines and remarks say nothing.

    Raises:
        UsageError: a file is missing, or a line is none of the three: a gate fails closed.
    """
    entries = [entry for path in files for entry in read_entries(read_lines(path), str(path), BLOCKLIST_KINDS)]
    return Blocklist(
        addresses=frozenset(entry.address for entry in entries if entry.address is not None),
        domains=frozenset(entry.value for entry in entries if entry.kind == "domain"),
        hashes=frozenset(entry.value for entry in entries if entry.kind in ("md5", "sha256")),
    )


def possible_minor(*texts: str | None) -> bool:
    """Return whether any text has a word or an age that may mean a minor."""
    return any(text is not None and _minor_re().search(text.lower()) is not None for text in texts)


def is_unsafe(nsfw: str | None, punsafe: float | None) -> bool:
    """Return whether the metadata calls an image unsafe, is unsure, or says nothing of it."""
    if nsfw is None and punsafe is None:
        return True
    return nsfw in UNSAFE_WORDS or (punsafe is not None and punsafe > UNSAFE_PROBABILITY)


def conditions(
    settings: "RankSettings", *, has_release: bool, has_blocklist: bool, blind: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return (SQL condition, reason) over joined images, in order: the first that holds names why one is left out.

    `blind` names gates that a waiver lets be, since no row has a value for them.
    """
    gates = settings.gates
    rules: list[tuple[str, str]] = []
    if has_blocklist:
        rules += [
            ("address IN (SELECT address FROM blocked_addresses)", "blocked_url"),
            ("host IN (SELECT host FROM blocked_hosts)", "blocked_domain"),
            ("sha256 IN (SELECT hash FROM blocked_hashes) OR md5 IN (SELECT hash FROM blocked_hashes)", "blocked_hash"),
        ]
    if has_release:
        rules.append(("NOT in_release", "not_in_release"))
    words = ", ".join(f"'{word}'" for word in UNSAFE_WORDS)
    is_unsafe = f"nsfw IN ({words}) OR punsafe > {UNSAFE_PROBABILITY} OR {SAYS_NOTHING}"
    may_be_minor = f"regexp_matches(lower(concat_ws(' ', caption, facecaptions)), '{MINOR_PATTERN}')"
    rules.append((f"CASE WHEN {is_unsafe} THEN {may_be_minor} ELSE FALSE END", "unsafe_and_possible_minor"))
    rules += _from_columns(gates, blind)
    rules.append(("area IS NULL", "no_size"))
    if settings.key != "image_area":
        rules.append(("face_side IS NULL", "no_face_box"))
    return rules


def _from_columns(gates: "GateSettings", blind: Collection[str]) -> list[tuple[str, str]]:
    words = _words_left_out(gates)
    nsfw = ", ".join(f"'{word}'" for word in words)
    is_unknown = f"nsfw = '{UNKNOWN}'" + ("" if WORD_GATE in blind else f" OR {SAYS_NOTHING}")
    limits: Sequence[tuple[Any, str, str]] = (
        (words or None, f"nsfw IN ({nsfw})", "nsfw"),
        (True if WORD_GATE in active_gates(gates) else None, is_unknown, "nsfw_unknown"),
        (gates.max_punsafe, f"punsafe > {gates.max_punsafe}", "punsafe_high"),
        (gates.max_pwatermark, f"pwatermark > {gates.max_pwatermark}", "pwatermark_high"),
        (gates.min_side_px, f"least(width, height) < {gates.min_side_px}", "side_too_small"),
        (
            gates.max_aspect,
            f"greatest(width, height) > {gates.max_aspect} * least(width, height)",
            "aspect_high",
        ),
        (gates.min_num_faces, f"num_faces < {gates.min_num_faces}", "num_faces_low"),
        (gates.max_num_faces, f"num_faces > {gates.max_num_faces}", "num_faces_high"),
        (gates.min_face_side_px, f"face_side < {gates.min_face_side_px}", "face_too_small"),
    )
    return [(condition, reason) for limit, condition, reason in limits if limit is not None]


def _words_left_out(gates: "GateSettings") -> list[str]:
    """Return the words that are left out: `NSFW` too where only a limit on the probability is set.

    A table may have words alone, and then that limit sees nothing; a limit of 1 forbids nothing, and no word either.
    """
    is_limited = gates.max_punsafe is not None and gates.max_punsafe < 1.0
    words = [*gates.nsfw, NSFW] if gates.nsfw or is_limited else []
    return list(dict.fromkeys(word_of(word) for word in words))


def active_gates(gates: "GateSettings") -> dict[str, str]:
    """Return gate -> SQL over cleaned rows of LAION that is null where a row has no value for it.

    Sizes are missing: a row without them is left out in any case.
    """
    on = {
        WORD_GATE: bool(gates.nsfw) or gates.max_punsafe is not None,
        CHANCE_GATE: gates.max_punsafe is not None,
        "max_pwatermark": gates.max_pwatermark is not None,
    }
    sql = {WORD_GATE: "nsfw", CHANCE_GATE: "punsafe", "max_pwatermark": "pwatermark"}
    return {gate: sql[gate] for gate, is_on in on.items() if is_on}


def active_face_gates(gates: "GateSettings") -> list[str]:
    """Return the gates that judge by faces, of which detections or boxes must know."""
    names = ("min_face_side_px", "min_num_faces", "max_num_faces")
    return [name for name in names if getattr(gates, name) is not None]


def register_blocklist(database: "duckdb.DuckDBPyConnection", blocklist: Blocklist) -> None:
    """Give DuckDB the tables that `conditions` names; `is_blocked_host` takes a URL's part between `//` and `/`."""
    import duckdb

    for name, column, values in (
        ("blocked_addresses", "address", blocklist.addresses),
        ("blocked_hashes", "hash", blocklist.hashes),
    ):
        database.register("listed", pa.table({column: pa.array(sorted(values), pa.string())}))
        database.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT {column} FROM listed")
        database.unregister("listed")

    def is_blocked(column: pa.ChunkedArray) -> pa.Array:
        return pa.array([_is_blocked(place or "", blocklist.domains) for place in column.to_pylist()], pa.bool_())

    text, truth = duckdb.sqltypes.VARCHAR, duckdb.sqltypes.BOOLEAN
    database.create_function("is_blocked_host", is_blocked, [text], truth, type="arrow", null_handling="special")


def _is_blocked(place: str, domains: frozenset[str]) -> bool:
    return not domains.isdisjoint(above(host_of(f"http://{place}")))


def _minor_re() -> re.Pattern[str]:
    return re.compile(MINOR_PATTERN)
