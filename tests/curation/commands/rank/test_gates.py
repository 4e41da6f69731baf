"""The gates before any download: each leaves out what it names, with its own reason, and none can be talked past."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.rank.gates import MINOR_PATTERN, possible_minor, read_blocklist
from curation.commands.rank.stage import Safeguards, rank
from curation.commands.verify.check import verify
from curation.dataset.ledger import read_ledger
from curation.dataset.sample import uid_of_url
from curation.dataset.tombstones import hashed
from curation.errors import UsageError
from curation.run.runner import Spread
from tests.curation.commands.rank.oracle import expect
from tests.curation.commands.rank.test_stage import (
    FACECAPTION,
    LAION,
    RECIPE,
    Row,
    face,
    hostile_rows,
    image,
    selection,
)
from tests.curation.commands.rank.test_stage import run as run_rank
from tests.curation.shards import recipe_from

MORE_LAION = pa.schema(
    [
        *LAION,
        ("punsafe", pa.float64()),
        ("pwatermark", pa.float64()),
        ("sha256", pa.string()),
        ("md5", pa.string()),
    ]
)
URL = "http://pictures.a.org/1.jpg"


def reasons(
    folder: Path, images: list[Row], settings: str = "", faces: list[Row] | None = None, safe: Safeguards | None = None
) -> dict[str, str | None]:
    """Rank rows; URL -> reason."""
    folder.mkdir(parents=True, exist_ok=True)
    faces = [face(row["URL"]) for row in images] if faces is None else faces
    pq.write_table(pa.Table.from_pylist(faces, FACECAPTION), folder / "facecaption.parquet")
    pq.write_table(pa.Table.from_pylist(images, MORE_LAION), folder / "laion.parquet")
    recipe = recipe_from(folder, RECIPE.format(rank=settings))
    rank(folder / "facecaption.parquet", folder / "laion.parquet", folder / "rank", recipe, safe or Safeguards())
    return {row["url"]: row["reason"] for row in read_ledger(folder / "rank" / "ledger.parquet").to_pylist()}


@pytest.mark.parametrize(
    ("gate", "good", "bad", "reason"),
    [
        ("min_side_px = 90", {}, {"HEIGHT": 89}, "side_too_small"),
        ("max_aspect = 2", {"WIDTH": 200}, {"WIDTH": 201}, "aspect_high"),
        ("max_punsafe = 0.3", {"punsafe": 0.3}, {"punsafe": 0.31}, "punsafe_high"),
        ("max_pwatermark = 0.5", {"pwatermark": 0.5}, {"pwatermark": 0.9}, "pwatermark_high"),
        ("", {"NSFW": "UNSURE"}, {"NSFW": "NSFW"}, "nsfw"),
        ("", {"punsafe": 0.5}, {"punsafe": 0.51}, "punsafe_high"),
        ("nsfw = ['unsure', 'NSFW']", {}, {"NSFW": "Unsure "}, "nsfw"),
        ("", {"NSFW": None, "punsafe": 0.1}, {"NSFW": None}, "nsfw_unknown"),
        ("", {"NSFW": "UNLIKELY", "TEXT": "a girl"}, {"NSFW": "UNSURE", "TEXT": "a girl"}, "unsafe_and_possible_minor"),
        ("", {"punsafe": 0.2, "TEXT": "kids"}, {"punsafe": 0.21, "TEXT": "kids"}, "unsafe_and_possible_minor"),
        (
            "nsfw = []\nmax_punsafe = 1.0",
            {"NSFW": "NSFW"},
            {"NSFW": "NSFW", "TEXT": "15 yo"},
            "unsafe_and_possible_minor",
        ),
    ],
)
def test_a_gate_leaves_out_what_is_beyond_it_and_nothing_else(
    tmp_path: Path, gate: str, good: Mapping[str, Any], bad: Mapping[str, Any], reason: str
) -> None:
    passes, fails, plain = (
        {**image(f"http://a.org/{name}.jpg"), **more} for name, more in (("1", good), ("2", bad), ("3", {}))
    )
    found = reasons(tmp_path, [passes, fails, plain], f"[rank.gates]\n{gate}")
    assert found == {"http://a.org/1.jpg": None, "http://a.org/2.jpg": reason, "http://a.org/3.jpg": None}


def test_faces_are_counted_and_measured_from_the_boxes(tmp_path: Path) -> None:
    urls = [f"http://a.org/{number}.jpg" for number in range(4)]
    faces = [
        face(urls[0], box="[0, 0, 60, 80]"),
        face(urls[1], box="[0, 0, 60, 80]"),
        face(urls[1], box="[90, 0, 160, 80]"),
        face(urls[2], box="[0, 0, 59, 80]"),
        face(urls[3], box="broken"),
    ]
    gates = "[rank.gates]\nmin_face_side_px = 60\nmax_num_faces = 1\nmin_num_faces = 1"
    found = reasons(tmp_path, [image(url) for url in urls], gates, faces)
    assert list(found.values()) == [None, "num_faces_high", "face_too_small", "num_faces_low"] or found == {
        urls[0]: None,
        urls[1]: "num_faces_high",
        urls[2]: "face_too_small",
        urls[3]: "num_faces_low",
    }


@pytest.mark.parametrize("key", ["image_area", "face_side", "face_area", "mix"])
@pytest.mark.parametrize("seed", range(3))
def test_an_independent_oracle_finds_the_same(tmp_path: Path, seed: int, key: str) -> None:
    faces, images = hostile_rows(seed, 200)
    manifest = run_rank(tmp_path, faces, images, f'top = 9\nkey = "{key}"')
    expected = expect(faces, images, 9, key)
    assert [row["uid"] for row in selection(tmp_path)] == [uid for uid, _ in expected.selection]
    assert manifest.rejected["rank"] == dict(expected.reasons)
    assert manifest.extra["cut"]["value"] == expected.selection[-1][1]
    found = {
        source: {name: n for name, n in faults.items() if n} for source, faults in manifest.extra["faults"].items()
    }
    assert found == expected.faults


def test_ties_at_the_cut_are_broken_by_uid(tmp_path: Path) -> None:
    urls = sorted((f"http://a.org/{number}.jpg" for number in range(20)), key=uid_of_url)
    manifest = run_rank(tmp_path, [face(url) for url in urls[::-1]], [image(url) for url in urls], "top = 7")
    assert [row["url"] for row in selection(tmp_path)] == urls[:7]
    assert manifest.extra["cut"]["uid"] == uid_of_url(urls[6])


def test_a_sample_id_decides_before_the_url_where_both_sides_have_it(tmp_path: Path) -> None:
    faces = [{**face("http://moved.org/a.jpg"), "SAMPLE_ID": 7}, {**face("http://a.org/2.jpg"), "SAMPLE_ID": None}]
    schema = pa.schema([*FACECAPTION, ("SAMPLE_ID", pa.int64())])
    pq.write_table(pa.Table.from_pylist(faces, schema), tmp_path / "facecaption.parquet")
    images = [image("http://a.org/1.jpg", sample_id=7), image("http://a.org/2.jpg", sample_id=8)]
    images += [image("http://z.org/other.jpg", sample_id=7)]
    pq.write_table(pa.Table.from_pylist(images, LAION), tmp_path / "laion.parquet")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    rank(tmp_path / "facecaption.parquet", tmp_path / "laion.parquet", tmp_path / "rank", recipe)
    assert {row["url"] for row in selection(tmp_path)} == {"http://a.org/1.jpg", "http://a.org/2.jpg"}


def test_blocklists_name_urls_domains_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "# synthetic\n\nHTTP://A.org:80/bad.jpg#x\nBlocked.example\n" + "AB" * 32 + "\n" + "cd" * 16 + "\n"
    )
    images = [
        image("http://a.org/good.jpg"),
        image("http://a.org/bad.jpg"),
        image("http://blocked.example/1.jpg"),
        image("https://user@cdn.blocked.example:8080/1.jpg"),
        image("http://notblocked.example/1.jpg"),
        {**image("http://a.org/sha.jpg"), "sha256": "ab" * 32},
        {**image("http://a.org/md5.jpg"), "md5": "CD" * 16},
    ]
    found = reasons(tmp_path, images, safe=Safeguards(blocklists=[tmp_path / "list.txt"]))
    assert list(found.values()).count(None) == 2
    assert {url.partition("//")[2]: reason for url, reason in found.items() if reason} == {
        "a.org/bad.jpg": "blocked_url",
        "blocked.example/1.jpg": "blocked_domain",
        "user@cdn.blocked.example:8080/1.jpg": "blocked_domain",
        "a.org/sha.jpg": "blocked_hash",
        "a.org/md5.jpg": "blocked_hash",
    }


@pytest.mark.parametrize("listed", ["bücher.example", "xn--bcher-kva.example", "BÜCHER.example."])
def test_a_blocked_domain_is_blocked_in_every_spelling(tmp_path: Path, listed: str) -> None:
    (tmp_path / "list.txt").write_text(
        f"{listed}\nhttp://münchen.example/bad.jpg\nhttp://xn--tst-qla.example/bad.jpg\n"
    )
    good = ("http://bucher.example/1", "http://münchen.example/1", "http://bücher.example.org/1")
    bad = (
        "http://bücher.example/1", "http://xn--bcher-kva.example/1", "http://x@y@img.bücher.example:81/1",
        "http://bücher.example?x", "http://xn--mnchen-3ya.example/bad.jpg", "http://täst.example/bad.jpg",
    )  # fmt: skip
    found = reasons(tmp_path, [image(url) for url in good + bad], safe=Safeguards(blocklists=[tmp_path / "list.txt"]))
    assert [found[url] for url in good] == [None] * 3
    assert [found[url] for url in bad] == ["blocked_domain"] * 4 + ["blocked_url"] * 2


@pytest.mark.parametrize("line", ["no dots", "abc", "http://", "x" * 40])
def test_a_line_that_is_none_of_these_stops_everything(tmp_path: Path, line: str) -> None:
    (tmp_path / "list.txt").write_text(f"a.org\n{line}\n")
    with pytest.raises(UsageError, match=r"list\.txt: line 2"):
        read_blocklist([tmp_path / "list.txt"])
    with pytest.raises(UsageError, match="cannot be read"):
        read_blocklist([tmp_path / "missing.txt"])


def test_what_a_cleaned_release_does_not_hold_is_left_out(tmp_path: Path) -> None:
    images = [image(f"http://a.org/{number}.jpg") for number in range(3)]
    release = tmp_path / "release.parquet"
    pq.write_table(pa.table({"URL": ["HTTP://a.org/0.jpg", "http://a.org/2.jpg#x", None, "UNKNOWN"]}), release)
    found = reasons(tmp_path, images, safe=Safeguards(release=release))
    assert found == {"http://a.org/0.jpg": None, "http://a.org/1.jpg": "not_in_release", "http://a.org/2.jpg": None}


def test_lists_and_releases_know_an_address_however_either_side_spells_it(tmp_path: Path) -> None:
    """Rows and lists each have a spelling of their own; only what would be sent counts."""
    rows = ["http://a.org/3.jpg", "https://a.org/x%20y.jpg", "http://b.org/./%C3%A9.jpg", "http://me@c.org./z"]
    listed = ["a.org/%33.jpg", "http://A.org/x y.jpg", "HTTPS://b.org/é.jpg", "https://c.org/./z#x"]
    others = ["http://a.org/4.jpg", "http://b.org/e.jpg"]
    (tmp_path / "list.txt").write_text("\ufeff" + "\r\n".join(listed), encoding="utf-8")
    images = [image(url) for url in rows + others]
    found = reasons(tmp_path / "a", images, safe=Safeguards(blocklists=[tmp_path / "list.txt"]))
    assert found == dict.fromkeys(rows, "blocked_url") | dict.fromkeys(others)
    release = tmp_path / "release.parquet"
    pq.write_table(pa.table({"URL": listed}), release)
    found = reasons(tmp_path / "b", images, safe=Safeguards(release=release))
    assert found == dict.fromkeys(rows) | dict.fromkeys(others, "not_in_release")


def test_the_blocklists_go_with_the_selection_as_hashes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"http://a.org/bad.jpg\nblocked.example\n{'ab' * 32}\n")
    reasons(tmp_path, [image(URL)], safe=Safeguards(blocklists=[tmp_path / "list.txt"]))
    assert verify(tmp_path, Spread(num_workers=0)).faults == ()
    rows = pq.read_table(tmp_path / "rank" / "blocked.parquet").to_pylist()
    assert rows == [
        {"kind": "address", "sha256": hashed("//a.org/bad.jpg")},
        {"kind": "domain", "sha256": hashed("blocked.example")},
    ]


def test_an_empty_release_lets_nothing_pass_and_one_without_urls_is_refused(tmp_path: Path) -> None:
    release = tmp_path / "release.parquet"
    pq.write_table(pa.table({"url": pa.array([], pa.string())}), release)
    assert reasons(tmp_path / "a", [image(URL)], safe=Safeguards(release=release)) == {URL: "not_in_release"}
    pq.write_table(pa.table({"address": ["x"]}), release)
    with pytest.raises(UsageError, match="column 'URL' or 'url' is missing"):
        reasons(tmp_path / "b", [image(URL)], safe=Safeguards(release=release))


@pytest.mark.parametrize(
    ("text", "may_be"),
    [
        ("a teenage singer", True),
        ("Girl with a pearl earring", True),
        ("13-year-old swimmer", True),
        ("she is 17 yo", True),
        ("aged 9 years", True),
        ("high school photo", True),
        ("a woman of 32 years", False),
        ("117 years of cinema", False),
        ("model in a black dress", False),
        ("kidney specialist", False),
        ("$1.5 years", False),
        ("", False),
        (None, False),
    ],
)
def test_words_and_ages_that_may_mean_a_minor(text: str | None, may_be: bool) -> None:
    import duckdb

    assert possible_minor(text) is may_be
    found = duckdb.sql("SELECT regexp_matches(lower(coalesce($1, '')), $2)", params=[text, MINOR_PATTERN]).fetchall()
    assert found == [(may_be,)]


def test_existing_detections_count_before_the_boxes(tmp_path: Path) -> None:
    images = [image(f"http://a.org/{number}.jpg", sample_id=number) for number in range(4)]
    faces = [face(row["URL"], box="[0, 0, 50, 50]") for row in images]
    pq.write_table(pa.Table.from_pylist(faces, FACECAPTION), tmp_path / "facecaption.parquet")
    pq.write_table(pa.Table.from_pylist(images, LAION), tmp_path / "laion.parquet")
    found = {"SAMPLE_ID": [0, 1, 2, 2, 9], "num_faces": [1, 3, 1, 1, 1], "face_side": [200.0, 90.0, 40.0, None, 1.0]}
    pq.write_table(pa.table(found | {"face_area": [1.0] * 5}), tmp_path / "detections.parquet")
    gates = 'key = "face_side"\n[rank.gates]\nmax_num_faces = 2\nmin_face_side_px = 41'
    recipe = recipe_from(tmp_path, RECIPE.format(rank=gates))
    manifest = rank(
        tmp_path / "facecaption.parquet",
        tmp_path / "laion.parquet",
        tmp_path / "rank",
        recipe,
        detections=tmp_path / "detections.parquet",
    )
    assert [row["url"] for row in selection(tmp_path)] == ["http://a.org/0.jpg", "http://a.org/3.jpg"]
    assert manifest.rejected == {"rank": {"face_too_small": 1, "num_faces_high": 1}}
    assert manifest.extra["cut"]["value"] == 50.0


def test_the_command_takes_release_blocklist_and_detections_even_from_a_strange_folder(tmp_path: Path) -> None:
    folder = tmp_path / "it's {odd} [here]"
    folder.mkdir()
    images = [image(f"http://a.org/{number}.jpg", sample_id=number) for number in range(4)]
    pq.write_table(pa.Table.from_pylist([face(row["URL"]) for row in images], FACECAPTION), folder / "f.parquet")
    pq.write_table(pa.Table.from_pylist(images, LAION), folder / "l.parquet")
    pq.write_table(pa.table({"URL": [row["URL"] for row in images[1:]]}), folder / "release.parquet")
    (folder / "list.txt").write_text("http://a.org/2.jpg\n")
    found = {"SAMPLE_ID": [3], "num_faces": [9], "face_side": [5.0], "face_area": [25.0]}
    pq.write_table(pa.table(found), folder / "detections.parquet")
    recipe_from(folder, RECIPE.format(rank="[rank.gates]\nmax_num_faces = 5"))
    words = [str(folder / name) for name in ("f.parquet", "l.parquet", "rank")]
    options = {"--release": "release", "--blocklist": "list", "--detections": "detections", "--recipe": "recipe"}
    suffixes = {"--blocklist": ".txt", "--recipe": ".toml"}
    for option, name in options.items():
        words += [option, str(folder / f"{name}{suffixes.get(option, '.parquet')}")]
    result = CliRunner().invoke(app, ["rank", *words, "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["rejected"] == {"rank": {"blocked_url": 1, "not_in_release": 1, "num_faces_high": 1}}
    assert summary["num_kept"] == 1
