"""Takedowns, blocklists and lists of hashes as people, spreadsheets and editors leave them, each of known entries."""

import codecs
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.faults.odd_inputs.case import Case
from curation.commands.fetch.hash_lists import HashList
from curation.commands.forget.stage import foresee
from curation.commands.forget.takedowns import read_list
from curation.commands.rank.gates import read_blocklist
from curation.dataset.ledger import read_ledger
from curation.dataset.urls import address_of, domain_of
from curation.errors import UsageError
from curation.measure.fingerprint import Fingerprint
from tests.curation.whole_run import final_url_of, url_of, write_run

KIND = "lists"
NUM_IMAGES = 12
ENDS = ("\n", "\r\n", "\r")
WRAPPINGS = ("{}", "  {}\t", '"{}"', "'{}'", "<{}>", "\ufeff{}", "\u00a0{}\u200b", "{} # a remark", "{}\t#", '"{}" # x')
BETWEEN = ("", "   ", "# a remark", "\t# http://never.example/", "\ufeff")
BROKEN = ("no request at all", "ftp://a.example/x", "sha256:12", "http://[bad/", "domain:a b", "phash:0")
ENCODINGS = ("utf-16", "utf-16-le", "utf-32")
Places = Callable[[Path], int]


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Yield `count` odd lists: every third for `forget`, for `rank`, for `fetch`."""
    run = folder / "run"
    write_run(run, num_images=NUM_IMAGES)
    rows = [row for path in sorted((run / "fetch").glob("0*.parquet")) for row in read_ledger(path).to_pylist()]
    makers = (_takedowns, _blocklist, _hashes)
    for number in range(count):
        dice = random.Random(f"{seed} {number}")
        maker = makers[number % len(makers)]
        lines, account = maker(dice, run, rows)
        path = folder / f"{number:05d}.txt"
        is_broken = dice.random() < 0.15
        path.write_bytes(_written(dice, lines, is_broken=is_broken))
        rows_in = len(lines)
        yield Case(
            KIND, f"{maker.__name__.strip('_')}-{number}", rows_in, partial(_account, account, path, is_broken, rows_in)
        )


def _account(account: Places, path: Path, is_broken: bool, rows_in: int) -> int:
    """Return how many entries were found to mean what they say; a broken list must be refused by file and reason."""
    if not is_broken:
        return account(path)
    try:
        account(path)
    except UsageError as error:
        return rows_in if str(path) in str(error) else 0
    except Exception as error:
        if getattr(error, "exit_code", 0) == 6 and str(path) in str(error):
            return rows_in
        raise
    return 0


def _written(dice: random.Random, lines: list[str], *, is_broken: bool) -> bytes:
    """Return a file of lines with everything around them that says nothing, and, if asked, one thing that is wrong."""
    listed = []
    for line in lines:
        listed += dice.choices(BETWEEN, k=dice.randrange(3))
        listed.append(dice.choice(WRAPPINGS).format(line))
    if is_broken and dice.random() < 0.5:
        return dice.choice(ENDS).join(listed).encode(dice.choice(ENCODINGS))
    if is_broken:
        listed.insert(dice.randrange(len(listed) + 1), dice.choice(BROKEN))
    text = dice.choice(ENDS).join(listed) + dice.choice(("", *ENDS))
    return dice.choice((b"", codecs.BOM_UTF8)) + text.encode()


def _cased(dice: random.Random, text: str) -> str:
    return text.upper() if dice.random() < 0.5 else text


def _takedowns(dice: random.Random, run: Path, rows: list[dict[str, str]]) -> tuple[list[str], Places]:
    lines = []
    for row in dice.sample(rows, dice.randrange(1, 6)):
        number = int(row["url"][-10:-4])
        choices = [row["url"], _cased(dice, row["uid"]), row["key"], "url: " + url_of(number), f"uid:{row['uid']}"]
        choices += [_cased(dice, row["sha256"])] if row["sha256"] else []
        choices += [str(final_url_of(number))] if final_url_of(number) else []
        lines.append(dice.choice(choices))

    def account(path: Path) -> int:
        answers = foresee(run, read_list(path))["requests"]
        return sum(answer["num_images"] > 0 for answer in answers)

    return lines, account


def _blocklist(dice: random.Random, _: Path, __: object) -> tuple[list[str], Places]:
    urls = [f"http://a{n}.example/x {n}" for n in range(dice.randrange(1, 4))]
    domains = [_cased(dice, f"bücher{n}.example") for n in range(dice.randrange(3))]
    hashes = [f"{dice.getrandbits(bits):0{bits // 4}x}" for bits in dice.choices((128, 256), k=3)]

    def account(path: Path) -> int:
        listed = read_blocklist([path])
        found = sum(address_of(url) in listed.addresses for url in urls)
        return (
            found + sum(domain_of(name) in listed.domains for name in domains) + sum(h in listed.hashes for h in hashes)
        )

    return [*urls, *domains, *(_cased(dice, text) for text in hashes)], account


def _hashes(dice: random.Random, _: Path, __: object) -> tuple[list[str], Places]:
    exact = [f"{dice.getrandbits(bits):0{bits // 4}x}" for bits in dice.choices((128, 256), k=dice.randrange(1, 5))]
    looks = [f"{dice.getrandbits(64):016x}" for _ in range(dice.randrange(3))]

    def account(path: Path) -> int:
        listed = HashList(path)
        prints = [Fingerprint(text if len(text) == 64 else "", text if len(text) == 32 else "") for text in exact]
        return sum(map(listed.match, [*prints, *(Fingerprint("", "", look) for look in looks)]))

    lines = [_cased(dice, text) for text in exact] + [f"{_cased(dice, 'phash')}:{_cased(dice, text)}" for text in looks]
    return lines, account
