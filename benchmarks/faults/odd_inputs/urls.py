"""Metadata whose URLs are odd, and lists that spell the same addresses otherwise: every row is ranked or left out."""

import random
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.odd_inputs.case import Case
from curation.commands.rank.stage import Safeguards, rank
from curation.dataset.ledger import read_ledger
from curation.recipe.recipe import Recipe
from tests.curation.shards import recipe_from
from tests.curation.whole_run import write_metadata

KIND = "urls"
RECIPE = '\nschema_version = 1\nname = "odd"\n[rank]\nrows_per_part = 8\n[[filters]]\nname = "colour"\n'
NUM_ROWS = 12
HOSTS = ("a.example", "bücher.example", "x-y.b.example", "192.0.2.7")
NAMES = (
    "a.jpg",
    "x y.jpg",
    "é.jpg",
    "ü/ö.jpg",
    "a%2Fb.jpg",
    "q.jpg?x=1&y= z",
    "~t(1).jpg",
    "a:b@c.jpg",
    "%E9.jpg",
    "+.jpg",
)
UNUSABLE = (
    "",
    "UNKNOWN",
    "ftp://a.example/x",
    "http://",
    "no url",
    "http://[::1/x",
    "http://a.example:99999/",
    "data:,x",
)


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Yield `count` selections to rank, half of them against a blocklist, half against a release."""
    recipe = recipe_from(folder / "recipe", RECIPE)
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        usable = [f"row{row}/{dice.choice(NAMES)}" for row in range(NUM_ROWS)]
        places = [f"{dice.choice(HOSTS)}/{name}" for name in usable]
        rows = [spelled(dice, place, listed=False) for place in places] + dice.sample(UNUSABLE, 3)
        listed = set(dice.sample(range(NUM_ROWS), 5))
        lines = [spelled(dice, places[row], listed=True) for row in sorted(listed)]
        kind = ("blocklist", "release")[number % 2]
        place = folder / f"{number:05d}"
        yield Case(KIND, f"{kind}-{number}", len(rows), partial(_account, place, recipe, rows, lines, listed, kind))


def spelled(dice: random.Random, place: str, *, listed: bool) -> str:
    """Return one of the many ways to write an address; a list may leave the scheme out, a crawl has one."""
    host, _, path = place.partition("/")
    if dice.random() < 0.4:
        host = host.upper()
    if dice.random() < 0.3 and not host[0].isdigit():
        host = host.encode("idna").decode()
    host += dice.choice(("", "", "." if not host[0].isdigit() else ""))
    user = dice.choice(("", "", "me:pw@"))
    scheme = dice.choice(("http://", "https://", "HTTP://", *(("", "//") if listed and not user else ())))
    if dice.random() < 0.4:
        path = quote(path, safe="/%?&=+:@()~")
    if dice.random() < 0.3:
        path = path.replace("jpg", "%6a%70g")
    path = dice.choice(("", "", "./", "x/../")) + path + dice.choice(("", "", "#part"))
    return f"{scheme}{user}{host}{dice.choice(('', ':80' if scheme.lower() == 'http://' else ''))}/{path}"


def _account(place: Path, recipe: Recipe, rows: list[str], lines: list[str], listed: set[int], kind: str) -> int:
    """Rank the rows, and return how many stand in the ledger, if just those that the list means were told apart."""
    place.mkdir()
    metadata = write_metadata(place, len(rows), rows)
    (place / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    pq.write_table(pa.table({"URL": lines}), place / "release.parquet")
    is_blocklist = kind == "blocklist"
    guards = (
        Safeguards(blocklists=[place / "list.txt"]) if is_blocklist else Safeguards(release=place / "release.parquet")
    )
    rank(*metadata, place / "rank", recipe, guards)
    ledger = read_ledger(place / "rank" / "ledger.parquet").to_pylist()
    named = ((re.search(r"/row(\d+)/", row["url"] or ""), row["reason"]) for row in ledger)
    by_name = {int(name[1]): reason for name, reason in named if name is not None}
    marked = "blocked_url" if is_blocklist else None
    if {number for number, reason in by_name.items() if reason == marked} != listed:
        return -1
    return sum(row["num_laion_rows"] for row in ledger)
