"""Safety around the download: no links without a release or a waiver; listed pictures withheld; copies found."""

import hashlib
import io
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.commands.fetch.hash_lists import HashList, load_matchers
from curation.commands.fetch.placeholders import found_in
from curation.commands.fetch.stage import fetch
from curation.commands.rank.stage import Safeguards, rank
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.dataset.tar import read_samples
from curation.errors import SafetyError, UsageError
from curation.measure.cascade import Entry
from curation.measure.fingerprint import Fingerprint, contradicts, fingerprint, look_at, phash_distance
from curation.recipe.settings import DecodeLimits, FetchSettings
from curation.run.runner import Spread
from curation.storage.publish import digest
from demo.server import DemoServer, serve
from tests.curation.commands.fetch.test_stage import RECIPE, WAIVER
from tests.curation.images.test_reservations import PLUS, jpeg_with, packet, png_with
from tests.curation.shards import colourful, recipe_from
from tests.distributions import bring

LIMITS = DecodeLimits()


def print_of(image_bytes: bytes) -> Fingerprint:
    """The fingerprint of a picture that this process looks at itself."""
    return fingerprint(image_bytes, look_at([Entry("0" * 32, image_bytes)], LIMITS)[0])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DemoServer]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(colourful(number))
    with serve(folder) as running:
        yield running


def selected(folder: Path, rows: list[dict[str, Any]], release: list[str] | None = None) -> Path:
    """Rank `rows`, each a URL and what LAION says of it."""
    urls = [row["URL"] for row in rows]
    faces = {"_id": urls, "caption": [[row.pop("caption", "A face.")] for row in rows], "url": urls}
    pq.write_table(pa.table(faces | {"box": ["[1, 2, 30, 40]"] * len(urls)}), folder / "facecaption.parquet")
    usual = {"TEXT": "x", "NSFW": "UNLIKELY", "similarity": 0.3, "LICENSE": "?"}
    sizes = [{"WIDTH": 64, "HEIGHT": 64, "SAMPLE_ID": number} for number in range(len(rows))]
    images = [usual | size | row for size, row in zip(sizes, rows, strict=True)]
    pq.write_table(pa.Table.from_pylist(images), folder / "laion.parquet")
    safeguards = Safeguards()
    if release is not None:
        pq.write_table(pa.table({"URL": release}), folder / "release.parquet")
        safeguards = Safeguards(release=folder / "release.parquet")
    recipe = recipe_from(folder, RECIPE.format(rows_per_part=100, num_threads=2))
    rank(folder / "facecaption.parquet", folder / "laion.parquet", folder / "rank", recipe, safeguards)
    return folder / "rank"


def run(folder: Path, **options: Any) -> Manifest:
    """Fetch the selection of `folder`."""
    recipe = recipe_from(folder, RECIPE.format(rows_per_part=100, num_threads=2))
    chosen: dict[str, Any] = {"waiver": WAIVER, "allow_loopback": True} | options
    return fetch(folder / "rank", folder / "fetch", recipe, Spread(num_workers=0), **chosen)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_ledger(folder / "fetch" / "00000.parquet").to_pylist()
    return rows


def urls_of(server: DemoServer, num: int = 6) -> list[dict[str, Any]]:
    return [{"URL": f"{server.base_url}/images/{number}.jpg"} for number in range(num)]


@pytest.mark.parametrize("waiver", [None, "", "  "])
def test_nothing_is_downloaded_without_a_release_or_a_reason(
    tmp_path: Path, server: DemoServer, waiver: str | None
) -> None:
    selected(tmp_path, urls_of(server))
    with pytest.raises(SafetyError, match="never held against a cleaned release") as caught:
        run(tmp_path, waiver=waiver)
    assert caught.value.exit_code == 6
    assert not server.requests
    assert not (tmp_path / "fetch").exists()


@pytest.mark.slow
def test_a_waiver_is_recorded_and_a_release_needs_none(tmp_path: Path, server: DemoServer) -> None:
    selected(tmp_path, urls_of(server))
    assert run(tmp_path).extra["safety"] == {"release": None, "waiver": WAIVER, "hash_lists": {}}
    (tmp_path / "again").mkdir()
    listed = [row["URL"] for row in urls_of(server, 2)]
    selected(tmp_path / "again", urls_of(server), release=listed)
    manifest = run(tmp_path / "again", waiver=None)
    assert (manifest.num_seen, manifest.num_kept) == (2, 2)
    sha256 = hashlib.sha256((tmp_path / "again" / "release.parquet").read_bytes()).hexdigest()
    release = {"name": "release.parquet", "digest": digest({"release.parquet": sha256})}
    assert manifest.extra["safety"]["release"] == release
    assert str(tmp_path) not in (tmp_path / "again" / "rank" / "manifest.json").read_text()
    assert str(tmp_path) not in (tmp_path / "again" / "fetch" / "manifest.json").read_text()


def test_a_listed_picture_is_withheld_counted_and_shown_nowhere(
    tmp_path: Path, server: DemoServer, caplog: pytest.LogCaptureFixture
) -> None:
    prints = [print_of(colourful(number)) for number in range(6)]
    near = f"{int(str(prints[2].phash), 16) ^ 0b1011:016x}"
    hashes = tmp_path / "synthetic.txt"
    hashes.write_text(f"# synthetic\n{prints[0].sha256}\nmd5:{prints[1].md5.upper()}  # remark\n\nphash:{near}\n")
    selected(tmp_path, urls_of(server))
    with caplog.at_level(logging.ERROR):
        manifest = run(tmp_path, hash_lists=[hashes])
    rows = rows_of(tmp_path)
    assert manifest.rejected == {"fetch": {"withheld": 3}}
    assert manifest.num_seen == 6
    withheld = [row for row in rows if row["reason"] == "withheld"]
    assert all(row["url"] is row["sha256"] is row["headers"] is row["phash"] is None for row in withheld)
    uids = {row["uid"] for row in withheld}
    assert not uids & {sample.metadata["uid"] for sample in read_samples(tmp_path / "fetch" / "00000.tar")}
    folder = tmp_path / "fetch" / "withheld"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.stem for path in folder.glob("*.withheld")} == uids
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.glob("*.withheld"))
    assert {path.read_bytes() for path in folder.glob("*.withheld")} == {colourful(number) for number in range(3)}
    assert json.loads(next(folder.glob("*.json")).read_text())["matched"] == "synthetic.txt"
    assert "3 pictures match" in caplog.text
    assert "CyberTipline" in caplog.text
    assert server.base_url not in caplog.text
    assert server.base_url not in "".join(path.read_text() for path in folder.glob("*.json"))


def disguises() -> dict[str, bytes]:
    """The same picture in every dress in which the decode gate refuses to look at it, by the gate's reason."""
    plain = Image.open(io.BytesIO(colourful(0, "PNG")))
    jpeg, png, dresses = colourful(0), bytearray(colourful(0, "PNG")), {}
    for kind in ("GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "ICO"):
        file = io.BytesIO()
        plain.save(file, kind)
        dresses[kind] = file.getvalue()
    for kind in ("WEBP", "PNG"):
        file = io.BytesIO()
        plain.save(file, kind, save_all=True, append_images=[plain.transpose(Image.Transpose.ROTATE_90)])
        dresses[f"animated {kind}"] = file.getvalue()
    png[-17] ^= 0xFF  # in the checksum of the last IDAT
    return dresses | {"png": bytes(png), "cut by 2": jpeg[:-2], "cut by 40": jpeg[:-40], "page": b"<html>" + jpeg}


def test_what_no_list_can_judge_is_not_kept_while_there_is_one(tmp_path: Path, server: DemoServer) -> None:
    dresses = disguises()
    for number, content in enumerate(dresses.values()):
        (tmp_path / "pictures" / f"disguise-{number}.jpg").write_bytes(content)
    urls = {name: f"{server.base_url}/images/disguise-{number}.jpg" for number, name in enumerate(dresses)}
    rows = [{"URL": url} for url in urls.values()]
    selected(tmp_path, [*rows, *urls_of(server)[1:2]])
    (tmp_path / "list.txt").write_text(f"phash:{print_of(colourful(0)).phash}")
    assert run(tmp_path, hash_lists=[tmp_path / "list.txt"]).num_kept == 1
    ledger = {row["url"]: row for row in rows_of(tmp_path)}
    found = {name: (ledger[url]["kept"], ledger[url]["rejected_by"]) for name, url in urls.items()}
    assert found == dict.fromkeys(dresses, (False, "unreadable"))
    assert ledger[urls["GIF"]]["reason"] == "format_gif"
    assert ledger[urls["cut by 2"]]["reason"] == "truncated"
    (kept,) = read_samples(tmp_path / "fetch" / "00000.tar")
    assert kept.url == urls_of(server)[1]["URL"]
    (tmp_path / "free").mkdir()
    selected(tmp_path / "free", [dict(row) for row in rows])
    assert run(tmp_path / "free").num_kept == len(dresses)


@pytest.mark.parametrize("name", ["jpg", "png"])
def test_a_picture_that_reserves_itself_is_not_kept_and_the_ledger_says_where(
    tmp_path: Path, server: DemoServer, name: str
) -> None:
    xmp = packet(f'plus:DataMining="{PLUS}DMI-PROHIBITED-AIMLTRAINING"')
    picture = jpeg_with(xmp) if name == "jpg" else png_with(xmp, packed=True)
    (tmp_path / "pictures" / f"reserved.{name}").write_bytes(picture)
    selected(tmp_path, [{"URL": f"{server.base_url}/images/reserved.{name}"}, *urls_of(server, 1)])
    assert run(tmp_path).num_kept == 1
    free, reserved = sorted(rows_of(tmp_path), key=lambda row: str(row["url"]))
    assert (reserved["rejected_by"], reserved["reason"]) == ("fetch", "opted_out")
    said = json.loads(reserved["opt_out"])
    assert said | {"date": ""} == {"where": "xmp", "value": "DMI-PROHIBITED-AIMLTRAINING", "source": None, "date": ""}
    assert len(said["date"]) == len("2026-11-30")
    assert free["opt_out"] is None


def test_a_waiver_for_robots_txt_needs_a_reason_is_recorded_and_is_other_work(
    tmp_path: Path, server: DemoServer
) -> None:
    selected(tmp_path, urls_of(server, 1))
    with pytest.raises(SafetyError, match="gives no reason"):
        run(tmp_path, robots_waiver=" ")
    assert run(tmp_path, robots_waiver="our own server").extra["safety"]["robots_waiver"] == "our own server"
    with pytest.raises(UsageError, match="other work"):
        run(tmp_path)


def test_another_hash_list_is_other_work(tmp_path: Path, server: DemoServer) -> None:
    selected(tmp_path, urls_of(server))
    run(tmp_path)
    (tmp_path / "list.txt").write_text("ab" * 32)
    with pytest.raises(Exception, match="other work"):
        run(tmp_path, hash_lists=[tmp_path / "list.txt"])


@pytest.mark.parametrize("text", ["", "# only a remark", "not a hash", "ab" * 20, "phash:12"])
def test_a_hash_list_that_says_nothing_or_nonsense_stops_everything(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(SafetyError, match=r"list\.txt"):
        HashList(tmp_path / "list.txt")
    with pytest.raises(SafetyError, match="cannot be read"):
        HashList(tmp_path / "missing.txt")


def test_what_may_show_a_minor_and_is_unsafe_is_never_asked_for(tmp_path: Path, server: DemoServer) -> None:
    rows = urls_of(server, 3)
    rows[1] |= {"punsafe": 0.4}
    rows[2] |= {"punsafe": 0.4, "caption": "A young woman."}
    source = selected(tmp_path, rows)
    part = pq.read_table(source / "00000.parquet")
    captions = ['[{"box":null,"caption":"A girl.","id":"x"}]' if unsafe else text for unsafe, text in zip(
        part["punsafe"].to_pylist(), part["facecaptions"].to_pylist(), strict=True)]  # fmt: skip
    from curation.commands.fetch.rows import is_unsafe_minor

    changed = part.set_column(part.schema.get_field_index("facecaptions"), "facecaptions", pa.array(captions))
    assert [is_unsafe_minor(row) for row in part.to_pylist()] == [False] * 3
    assert [is_unsafe_minor(row) for row in changed.to_pylist()] == [bool(row["punsafe"]) for row in part.to_pylist()]


def test_fingerprints_need_pixels_only_for_the_look() -> None:
    picture = print_of(colourful(1, side=128))
    again = print_of(colourful(1, "PNG", side=256))
    assert (picture.width, picture.height) == (128, 128)
    assert picture.sha256 != again.sha256
    assert phash_distance(str(picture.phash), str(again.phash)) <= 4
    assert phash_distance(str(picture.phash), str(print_of(colourful(2)).phash)) > 10
    page = print_of(b"<html>")
    assert (page.phash, page.width) == (None, None)
    assert len(page.sha256) == 64


@pytest.mark.parametrize(
    ("fetched", "crawled", "expected"),
    [
        ((800, 600), (800, 600), False),
        ((600, 800), (800, 600), False),
        ((400, 300), (800, 600), False),
        ((399, 299), (800, 600), True),
        ((800, 500), (800, 600), True),
        ((1600, 1200), (800, 600), False),
        (None, (800, 600), None),
    ],
)
def test_a_size_contradicts_the_crawl_by_shape_or_by_half(
    fetched: tuple[int, int] | None, crawled: tuple[int, int], expected: bool | None
) -> None:
    assert contradicts(fetched, crawled) is expected


def ledger_file(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    """Write what `find` reads of a ledger."""
    usual = {"phash": None, "kept": True, "contradicts_size": False, "face_side": None}
    columns = {"uid": pa.string(), "url": pa.string(), "sha256": pa.string(), "phash": pa.string(), "kept": pa.bool_(),
               "contradicts_size": pa.bool_(), "face_side": pa.float64()}  # fmt: skip
    table = pa.Table.from_pylist([usual | row for row in rows], schema=pa.schema(list(columns.items())))
    pq.write_table(table, folder / name)
    return folder / name


def findings(ledgers: list[Path]) -> list[dict[str, Any]]:
    with found_in(ledgers, FetchSettings()) as found:
        return [row for table in found.tables() for row in table.to_pylist()]


def test_placeholders_and_copies_are_found_over_all_shards(tmp_path: Path) -> None:
    gone = [
        {"uid": f"g{n}", "url": f"http://h{n}.org/a", "sha256": "gone", "contradicts_size": n > 0} for n in range(4)
    ]
    own = [
        {"uid": f"o{n:02d}", "url": f"http://one.org/{n}", "sha256": "own", "contradicts_size": True} for n in range(10)
    ]
    few = [{"uid": f"f{n}", "url": f"http://one.org/f{n}", "sha256": "few", "contradicts_size": True} for n in range(9)]
    copies: list[dict[str, Any]] = [
        {"uid": "c1", "url": "http://a.org/1", "sha256": "same", "face_side": 100.0},
        {"uid": "c2", "url": "http://b.org/1", "sha256": "same", "face_side": 400.0},
        {"uid": "c3", "url": "http://c.org/1", "sha256": "same"},
    ]
    looks = [
        {
            "uid": f"p{n}",
            "url": f"http://u@p{n}.org:8{n}/",
            "sha256": f"p{n}",
            "phash": "ab" * 8,
            "contradicts_size": True,
        }
        for n in range(3)
    ]
    alone = [{"uid": "a", "url": "http://a.org/2", "sha256": "alone", "phash": "cd" * 8}]
    lost = [{"uid": "l", "url": "http://z.org/", "sha256": "same", "kept": False}]
    rows: list[dict[str, Any]] = [*gone, *own, *few, *copies, *looks, *alone, *lost]
    files = [ledger_file(tmp_path, f"{number}.parquet", rows[number::3]) for number in range(3)]
    found = findings(files)
    by_hash = {row["hash"]: row for row in found}
    assert {(row["hash"], row["finding"]) for row in found} == {
        ("gone", "placeholder"),
        ("own", "placeholder"),
        ("few", "copy"),
        ("same", "copy"),
        ("ab" * 8, "placeholder"),
    }
    assert {row["best_uid"] for row in found if row["hash"] == "same"} == {"c2"}
    assert (by_hash["gone"]["num_urls"], by_hash["gone"]["num_hosts"], by_hash["gone"]["num_contradicting"]) == (
        4,
        4,
        3,
    )
    assert by_hash["ab" * 8]["same"] == "phash"
    assert findings(files[::-1]) == found
    assert findings([]) == []


def test_the_ledger_and_the_manifest_say_what_was_found(tmp_path: Path, server: DemoServer) -> None:
    tall = np.full((300, 100, 3), 200, np.uint8)
    Image.fromarray(tall).save(tmp_path / "pictures" / "placeholder.png")
    rows = [{"URL": f"{server.base_url}/removed/{number}.jpg"} for number in range(10)] + urls_of(server, 2)
    rows.append({"URL": f"{server.base_url}/moved/0.jpg"})
    selected(tmp_path, rows)
    manifest = run(tmp_path)
    assert manifest.extra["findings"] == {
        "copy": {"num_urls": 2, "num_pictures": 1},
        "placeholder": {"num_urls": 10, "num_pictures": 1},
    }
    assert manifest.files.keys() == {"findings.parquet"}
    by_path = {row["url"].partition("//")[2].partition("/")[2]: row for row in rows_of(tmp_path)}
    assert by_path["removed/0.jpg"]["contradicts_size"] is True
    assert by_path["images/0.jpg"]["contradicts_size"] is False
    assert by_path["images/0.jpg"]["phash"] == print_of(colourful(0)).phash
    assert by_path["images/0.jpg"]["face_side"] == 29.0
    assert (by_path["images/0.jpg"]["fetched_width"], by_path["images/0.jpg"]["fetched_height"]) == (64, 64)


def test_two_lists_of_one_name_stop_everything_since_records_could_not_tell_them_apart(tmp_path: Path) -> None:
    lists = [tmp_path / "a" / "list.txt", tmp_path / "b" / "list.txt"]
    for path in lists:
        path.parent.mkdir()
        path.write_text("ab" * 32)
    with pytest.raises(SafetyError, match=r"two lists of hashes are named 'list(\.txt)?'"):
        load_matchers(lists)


def test_a_matcher_that_is_installed_while_a_process_lives_is_asked_from_the_next_part_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_matchers([]) == load_matchers([]) == []
    (tmp_path / "late_matcher.py").write_text("class make:\n    name, digest, match = 'late', 'd', bool\n")
    bring(tmp_path, "late-things", "[facecaptionhq.hash_matchers]\nlate = late_matcher:make\n")
    assert [matcher.name for matcher in load_matchers([])] == ["late"]
    assert [matcher.name for matcher in load_matchers([])] == ["late"]
