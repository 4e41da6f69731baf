"""Shards, folders and tables of pictures as nobody here would write them, each with a known number of pictures."""

import gzip
import random
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.faults.odd_inputs.case import Case
from curation.commands.curate.stage import curate
from curation.commands.repair.stage import repair
from curation.dataset.ledger import read_ledger
from curation.dataset.tar import write_tar
from curation.errors import UsageError
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.runner import Spread
from tests.curation.shards import RECIPE, colourful, grey

KIND = "tars"
ALONE = Spread(num_workers=0)
PICTURES = tuple(colourful(n, side=24) for n in range(12)) + tuple(grey(n, side=24) for n in range(3))
SUFFIXES = ("jpg", "jpeg", "JPG", "jfif", "jpe", "pjpeg", "png", "webp", "bin")
STRAYS = (
    ".DS_Store", "._a.jpg", "README", "__MACOSX/._x.jpg", "PaxHeader/x.jpg", "Makefile", "Thumbs.db", "sub/.hidden.png",
)  # fmt: skip
KEYS: tuple[Callable[[int], str], ...] = (
    lambda n: f"{n:09d}", lambda n: f"22.{n:02d}", lambda n: f"./sub/{n}", lambda n: f"a.b/c.d.{n}", lambda n: f"ü {n}",
    lambda n: f"{'k' * 90}{n}",
)  # fmt: skip
Members = list[tuple[str, bytes]]


def cases(count: int, seed: int, folder: Path) -> Iterator[Case]:
    """Yield `count` odd sources of `curate`, each written below `folder` when it is asked for."""
    recipe = _recipe(folder)
    makers = list(MAKERS.items())
    for number in range(count):
        name, maker = makers[number % len(makers)]
        dice = random.Random(f"{seed} {number}")
        place = folder / f"{number:05d}"
        (place / "in").mkdir(parents=True)
        rows_in = maker(dice, place / "in")
        yield Case(KIND, f"{name}-{number}", rows_in, partial(_account, place, recipe, rows_in))


def _recipe(folder: Path) -> Recipe:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]"), encoding="utf-8")
    return load_recipe(str(path))


def _account(place: Path, recipe: Recipe, rows_in: int) -> int:
    """Curate the source; where its shard is refused, repair it, as the message says, and curate that.

    What `repair` names as lost, or leaves out by a reason, is accounted for by that.
    """
    source, target = place / "in", place / "out"
    try:
        manifest = curate(source, target, recipe, ALONE)
    except UsageError:
        return rows_in
    if not manifest.failed:
        return sum(read_ledger(target / f"{report.shard}.parquet").num_rows for report in manifest.shards)
    if not all("repair" in error for error in manifest.failed.values()):
        return rows_in
    repaired = repair(source, place / "repaired")
    if any(shard.losses for shard in repaired):
        return rows_in
    again = curate(place / "repaired", place / "again", recipe, ALONE)
    return again.num_seen + sum(shard.skipped.get("repeated", 0) for shard in repaired)


def _samples(dice: random.Random, count: int) -> Members:
    key, members = dice.choice(KEYS), Members()
    for number in range(count):
        members.append((f"{key(number)}.{dice.choice(SUFFIXES)}", dice.choice(PICTURES)))
        if dice.random() < 0.6:
            members.append((f"{key(number)}.txt", f"caption {number}".encode()))
        if dice.random() < 0.6:
            members.append((f"{key(number)}.json", b'{"n": %d}' % number))
    return members


def _sound(dice: random.Random, folder: Path) -> int:
    count = dice.randint(1, 8)
    write_tar(folder / "00000.tar", _samples(dice, count))
    return count


def _strays(dice: random.Random, folder: Path) -> int:
    count, members = dice.randint(1, 6), Members()
    members = _samples(dice, count)
    for _ in range(dice.randint(1, 4)):
        members.insert(dice.randint(0, len(members)), (dice.choice(STRAYS), b"stray"))
    write_tar(folder / "00000.tar", members)
    return count


def _extras(dice: random.Random, folder: Path) -> int:
    count = dice.randint(1, 5)
    members = [
        (f"{n}.{end}", content)
        for n in range(count)
        for end, content in (
            ("jpg", dice.choice(PICTURES)), ("face.json", b"{}"), ("emb.npy", b"x"), ("cls", b"1"), ("txt", b"x"),
        )
    ]  # fmt: skip
    write_tar(folder / "00000.tar", members)
    return count


def _repeated(dice: random.Random, folder: Path) -> int:
    members = _samples(dice, dice.randint(2, 5))
    pictures = [member for member in members if not member[0].endswith((".txt", ".json"))]
    again = [dice.choice(pictures) for _ in range(dice.randint(1, 3))]
    write_tar(folder / "00000.tar", members + again)
    return len(pictures) + len(again)


def _interleaved(dice: random.Random, folder: Path) -> int:
    count = dice.randint(2, 6)
    members = [
        (f"{n}.{end}", dice.choice(PICTURES) if end == "jpg" else b"{}")
        for end in ("jpg", "json")
        for n in range(count)
    ]
    write_tar(folder / "00000.tar", members)
    return count


def _several(dice: random.Random, folder: Path) -> int:
    ends = dice.sample(["jpg", "png", "webp", "jfif", "gif"], dice.randint(2, 4))
    write_tar(folder / "00000.tar", [(f"a.{end}", dice.choice(PICTURES)) for end in ends] + [("a.txt", b"x")])
    return len(ends)


def _damaged(dice: random.Random, folder: Path) -> int:
    """Write a tar that is cut, or whose bytes are zeros from somewhere on, or that is followed by something."""
    count, path = dice.randint(10, 14), folder / "00000.tar"
    members = [(f"{n}.jpg", dice.choice(PICTURES)) for n in range(count)]
    write_tar(path, members)
    content = path.read_bytes()
    end = sum(512 + -(-len(picture) // 512) * 512 for _, picture in members)
    place = dice.randrange(512, end - 512)
    path.write_bytes(
        dice.choice([
            content[:place], bytes(len(content) * 4), content[:place] + bytes(len(content) * 2), content + b"garbage",
            content[: place // 512 * 512] + b"\xff" * 512 + content[place // 512 * 512 + 512 :] + b"x",
        ])
    )  # fmt: skip
    return count


def _joined(dice: random.Random, folder: Path) -> int:
    counts = [dice.randint(1, 4) for _ in range(dice.randint(2, 3))]
    parts = []
    for part, count in enumerate(counts):
        write_tar(folder / "part", [(f"{part}-{n}.jpg", dice.choice(PICTURES)) for n in range(count)])
        parts.append((folder / "part").read_bytes())
    (folder / "part").unlink()
    (folder / "00000.tar").write_bytes(b"".join(parts))
    return sum(counts)


def _odd_members(dice: random.Random, folder: Path) -> int:
    """Write folders, links and devices among the samples; those that are named as pictures are rows."""
    count, odd = dice.randint(1, 5), dice.randint(1, 3)
    form = dice.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(folder / "00000.tar", "w", format=form) as tar:
        for number in range(odd):
            info = tarfile.TarInfo(f"odd{number}.jpg")
            info.type, info.linkname = dice.choice([tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]), "x" * 150
            tar.addfile(info)
        info = tarfile.TarInfo("some folder")
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        for number in range(count):
            (folder / "content").write_bytes(dice.choice(PICTURES))
            tar.add(folder / "content", f"{'long' * 60}{number}.jpg")
    (folder / "content").unlink()
    return count + odd


def _odd_texts(dice: random.Random, folder: Path) -> int:
    texts = (
        b"[" * 5000,
        b"\xff\xfe",
        b'{"a": %s}' % (b"9" * 5000),
        b"{" * 200,
        b'{"url": 3}',
        b"null",
        b"x" * (2 << 20),
    )
    count = dice.randint(1, 4)
    members = Members()
    for number in range(count):
        members.append((f"{number}.jpg", PICTURES[number]))
        members.append((f"{number}.{dice.choice(['json', 'txt'])}", dice.choice(texts)))
    write_tar(folder / "00000.tar", members)
    return count


def _packed(dice: random.Random, folder: Path) -> int:
    count = _sound(dice, folder)
    content = gzip.compress((folder / "00000.tar").read_bytes())
    (folder / "00000.tar").unlink()
    if dice.random() < 0.3:
        content = content[: dice.randrange(len(content))]
    (folder / dice.choice(["00000.tar.gz", "00000.tgz"])).write_bytes(content)
    return count


def _pictures(dice: random.Random, folder: Path) -> int:
    members = dict(_samples(dice, dice.randint(1, 8)))
    for name, content in (*members.items(), *((stray, b"stray") for stray in dice.sample(STRAYS, 3))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return sum(not name.endswith((".txt", ".json")) for name in members)


def _table(dice: random.Random, folder: Path) -> int:
    count = dice.randint(1, 8)
    cells = [dice.choice([*PICTURES, b"no picture", None]) for _ in range(count)]
    columns = {
        "image": pa.array(
            [None if cell is None else {"bytes": cell, "path": None} for cell in cells],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "text": pa.array([dice.choice(["a", None, "\U0001f600"]) for _ in cells]),
        "id": pa.array([2**64 - 1 - n for n in range(count)], pa.uint64()),
        "when": pa.array(list(range(count)), pa.timestamp("ns")),
    }
    table = pa.table(columns)
    if dice.random() < 0.5:
        pq.write_table(table, folder / "train.parquet", row_group_size=dice.randint(1, 4))
    else:
        with pa.OSFile(str(folder / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    return count


MAKERS: dict[str, Callable[[random.Random, Path], int]] = {
    "sound": _sound, "strays": _strays, "extras": _extras, "repeated": _repeated, "interleaved": _interleaved,
    "several": _several, "damaged": _damaged, "joined": _joined, "odd_members": _odd_members, "odd_texts": _odd_texts,
    "packed": _packed, "pictures": _pictures, "table": _table,
}  # fmt: skip
