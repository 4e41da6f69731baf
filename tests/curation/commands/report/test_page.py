import base64
import hashlib
import io
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.commands.decide.stage import decide
from curation.commands.report.choice import Choice, choose
from curation.commands.report.contents import CASCADE, ReportOptions, read_report
from curation.commands.report.criteria import criteria_of
from curation.commands.report.page import render
from curation.commands.report.scores import spread_of
from curation.commands.report.sheets import deciding
from curation.commands.report.thumbnails import MAX_SIDE_PX
from curation.commands.report.write import write_report
from curation.dataset.manifest import read_manifest
from curation.errors import ShardError, UsageError
from curation.recipe.recipe import load_recipe
from curation.storage.publish import publish_sealed, read_sealed
from filters.weights import catalogue
from tests.curation.commands.report.run import ALONE, RECIPE, edit_ledger, edit_manifest, recount, write_run
from tests.curation.shards import recipe_from

SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report; tests that change something copy it first."""
    run = write_run(tmp_path_factory.mktemp("report") / "run")
    write_report(run)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def values_of(run: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "report" / "report.json").read_text())
    return values


def page_of(run: Path) -> str:
    return (run / "report" / "index.html").read_text()


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((run / "curate").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


class Elements(HTMLParser):
    """Every element and attribute of a page, and its text outside of styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self._in_style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._in_style else data

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def test_the_numbers_are_those_of_the_ledgers(finished: Path) -> None:
    rows, values = rows_of(finished), values_of(finished)
    curated = next(stage for stage in values["stages"] if stage["stage"] == "curate")
    fates = Counter((row["rejected_by"], row["reason"]) for row in rows if not row["kept"])
    assert curated["num_seen"] == len(rows) == 24
    assert curated["num_kept"] == sum(row["kept"] for row in rows)
    assert {(by, reason): n for by, rs in curated["rejected"].items() for reason, n in rs.items()} == fates
    assert set(fates) == {
        ("curate", "duplicate_uid"), ("unreadable", "truncated"), ("colour", "mean_channel_std_low"),
        ("colour", "toning_residual_high"),
    }  # fmt: skip
    spread, _ = values["scores"]
    measured = [row["colour_scores"]["mean_channel_std"] for row in rows if row["colour_scores"]]
    assert (spread["num_measured"], spread["num_not_measured"]) == (len(measured), len(rows) - len(measured))
    assert (spread["lowest"], spread["highest"]) == (min(measured), max(measured))
    assert spread["num_outside"] == spread["num_rejected"] == fates["colour", "mean_channel_std_low"]


def test_the_page_shows_the_numbers_of_every_stage_and_reason(finished: Path) -> None:
    text = Elements(page_of(finished)).text
    for stage in values_of(finished)["stages"]:
        assert f"{stage['num_seen']:,}" in text
        assert all(reason in text for reasons in stage["rejected"].values() for reason in reasons)


def test_every_sample_is_accounted_for_within_and_between_stages(finished: Path) -> None:
    checks = {check["claim"]: check["holds"] for check in values_of(finished)["checks"]}
    assert set(checks.values()) == {True}
    for claim in ("rank kept = fetch seen", "fetch kept = curate seen", "curate kept = pack seen"):
        assert claim in checks
    assert {f"{stage}: seen = kept + rejected" for stage in ("rank", "fetch", "curate", "pack")} <= set(checks)
    assert "BROKEN" not in Elements(page_of(finished)).text


def broken_claims(run: Path) -> list[str]:
    write_report(run)
    assert "BROKEN" in Elements(page_of(run)).text
    assert not values_of(run)["all_hold"]
    return [check["claim"] for check in values_of(run)["checks"] if not check["holds"]]


def test_a_sample_that_is_lost_within_a_stage_is_flagged(run: Path) -> None:
    edit_manifest(run / "curate", lambda value: value.update(num_seen=value["num_seen"] + 1))
    assert broken_claims(run) == [
        "fetch kept = curate seen", "curate: seen = kept + rejected", "curate: manifest = ledger, by reason",
    ]  # fmt: skip


def test_a_ledger_that_tells_another_reason_than_its_manifest_is_flagged(run: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        next(row for row in rows if row["rejected_by"] == "unreadable")["reason"] = "corrupt"

    edit_ledger(run / "curate" / "00000.parquet", edit)
    assert broken_claims(run) == ["curate: manifest = ledger, by reason"]
    assert "unreadable/corrupt" in Elements(page_of(run)).text


def test_a_sample_that_is_kept_against_the_recipe_is_flagged(run: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        next(row for row in rows if row["kept"])["colour_scores"]["mean_channel_std"] = 1.5

    edit_ledger(run / "curate" / "00000.parquet", edit)
    assert broken_claims(run) == ["curate: every kept sample is within every keep range"]


SCREENS = """
[[filters.screens]]
filter = "colour"
measure = { toning_side = 32 }
[[filters.screens.proofs]]
when.toning_residual = { min = 0.0 }
then.mean_channel_std = { min = 5.0 }
"""
"""A proof that holds of everything, so that grey pictures stay whose own score says otherwise."""


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which the filter has measured what its screen had proven."""
    folder = tmp_path_factory.mktemp("screened")
    run = write_run(folder / "run", RECIPE.replace("[[filters]]", '[curate]\nmeasure = "all"\n[[filters]]') + SCREENS)
    write_report(run)
    return run


def test_what_a_screen_has_proven_is_kept_whatever_the_filter_measured_besides(screened: Path) -> None:
    kept = [row for row in rows_of(screened) if row["kept"]]
    outside = {row["uid"] for row in kept if row["colour_scores"]["mean_channel_std"] < 2.0}
    values = values_of(screened)
    assert outside and values["all_hold"]
    assert [spread["num_kept_outside"] for spread in values["scores"]] == [0, 0]
    assert values["scores"][0]["num_outside"] == len(outside)


def test_a_kept_sample_outside_a_range_that_no_screen_proves_is_flagged(screened: Path, tmp_path: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in rows if row["kept"] and row["colour_scores"]["mean_channel_std"] < 2.0)
        row["colour_screen_evidence"]["toning_residual"] = -1.0

    run = Path(shutil.copytree(screened, tmp_path / "run"))
    edit_ledger(run / "curate" / "00000.parquet", edit)
    assert broken_claims(run) == ["curate: every kept sample is within every keep range"]
    assert values_of(run)["scores"][0]["num_kept_outside"] == 1


def test_a_tile_lays_no_decision_to_a_score_that_did_not_decide(screened: Path, finished: Path) -> None:
    sheets = [sheet for sheet in values_of(screened)["sheets"] if sheet["name"] == "colour.mean_channel_std"]
    near = [sample for sheet in sheets for sample in sheet["samples"] if sample["kept"]]
    assert near and all(sample["deciding"] != "colour.mean_channel_std" for sample in near)
    assert any(sample["near_score"] < 2.0 for sample in near)
    assert ", proven by colour_screen keeps ≥ 2" in Elements(page_of(screened)).text
    for sheet in values_of(finished)["sheets"]:
        for sample in (one for one in sheet["samples"] if one["rejected_by"] == "colour"):
            assert sample["reason"].startswith(sample["deciding"].partition(".")[2]), "on near sheets too"


def test_the_page_shows_the_screens_what_they_prove_and_what_they_spare(screened: Path, finished: Path) -> None:
    text = Elements(page_of(screened)).text
    assert "colour, asked before colour" in text and "toning_side" in text
    assert "where toning_residual ≥ 0, it proves mean_channel_std ≥ 5" in text
    assert "What a screen has proven counts" in text and "What a screen has proven" not in page_of(finished)


def test_after_deciding_again_the_costs_are_those_of_deciding(run: Path, tmp_path: Path) -> None:
    assert values_of(run)["costs_of"] == "curate"
    shutil.rmtree(run / "pack")
    decide(run, recipe_from(tmp_path / "recipe", RECIPE + SCREENS), ALONE)
    write_report(run)
    text = Elements(page_of(run)).text
    assert values_of(run)["costs_of"] == "decide" and "Where the CPU time of decide went" in text
    assert values_of(run)["all_hold"], "grey pictures came back by the proof, though their filter had measured them"
    assert "or a screen had proven enough of it" in text


def test_a_failed_shard_is_named_where_it_is_missed(run: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        gone = value["shards"].pop()
        value["failed"] = {gone["shard"]: "00002.tar: cut"}
        value["num_seen"] -= gone["num_seen"]
        value["num_kept"] -= gone["num_kept"]
        for by, reasons in gone["rejected"].items():
            for reason, count in reasons.items():
                value["rejected"][by][reason] -= count

    edit_manifest(run / "curate", edit)
    assert broken_claims(run) == ["fetch kept = curate seen", "curate kept = pack seen"]
    assert "1 shard of curate failed" in Elements(page_of(run)).text
    assert "00002.tar: cut" in Elements(page_of(run)).text


def test_a_run_without_a_finished_curate_is_refused(run: Path) -> None:
    (run / "curate" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="curate"):
        write_report(run)


def test_a_missing_ledger_is_an_error(run: Path) -> None:
    (run / "curate" / "00001.parquet").unlink()
    with pytest.raises(ShardError, match=r"00001\.parquet"):
        write_report(run)


def test_a_stage_that_is_not_finished_is_named_and_not_counted(run: Path) -> None:
    (run / "pack" / "manifest.json").unlink()
    write_report(run)
    assert [stage["stage"] for stage in values_of(run)["stages"]] == ["rank", "fetch", "curate"]
    assert "Not finished, or superseded, and so not reported: pack" in Elements(page_of(run)).text


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(finished: Path, run: Path) -> None:
    shutil.rmtree(run / "report")
    write_report(run)
    for name in ("index.html", "report.json"):
        assert (run / "report" / name).read_bytes() == (finished / "report" / name).read_bytes()


def test_the_page_stands_alone(finished: Path) -> None:
    page = Elements(page_of(finished))
    assert not set(page.tags) & {"link", "iframe", "object", "embed", "base", "form", "image", "use"}
    (script,) = re.findall(r"<script>(.*?)</script>", page_of(finished), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href"))
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy in page.values("content") and not re.search("fetch|XMLHttp|import|eval|innerHTML", script)
    assert "url(" not in page_of(finished) and "@import" not in page_of(finished)


def test_thumbnails_are_small_and_blurred_until_somebody_asks(finished: Path) -> None:
    page = Elements(page_of(finished))
    for source in page.values("src"):
        image = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert max(image.size) <= MAX_SIDE_PX and image.format == "JPEG" and not image.getexif()
    assert ".picture img { display: block; filter: blur(" in page_of(finished)
    assert "checked" not in {name for _, name, _ in page.attributes}
    assert "Do not redistribute." in page.text


def test_every_tile_says_what_decided(finished: Path) -> None:
    rows = {row["uid"]: row for row in rows_of(finished) if row["reason"] != "duplicate_uid"}
    sheets = values_of(finished)["sheets"]
    assert {(sheet["kind"], sheet["name"]) for sheet in sheets} == {
        ("kept", ""), ("near", "colour.mean_channel_std"), ("near", "colour.toning_residual"),
        ("rejected", "curate"), ("rejected", "colour"),
    }  # fmt: skip
    for sheet in sheets:
        for sample in sheet["samples"]:
            assert sample["picture"] == "shown"
            if sample["reason"] == "duplicate_uid":
                assert sample["deciding"] is None
                continue
            filter_name, score = sample["deciding"].split(".")
            assert sample["score"] == rows[sample["uid"]][f"{filter_name}_scores"][score]
            if sheet["kind"] == "rejected":
                assert sample["reason"].startswith(score)


def test_without_the_source_shards_only_kept_pictures_are_shown_until_somebody_says_where_they_lie(
    run: Path, tmp_path: Path
) -> None:
    moved = (run / "fetch").rename(tmp_path / "moved")
    for record in (run / "curate").glob("*_stats.json"):
        publish_sealed(record, {**read_sealed(record), "run": {"source": "/nowhere"}})
    write_report(run)
    samples = [sample for sheet in values_of(run)["sheets"] for sample in sheet["samples"]]
    assert samples and all(sample["kept"] for sample in samples)
    assert "only kept pictures can be shown" in Elements(page_of(run)).text
    write_report(run, ReportOptions(source=str(moved)))
    samples = [sample for sheet in values_of(run)["sheets"] for sample in sheet["samples"] if not sample["kept"]]
    assert samples and {sample["picture"] for sample in samples} == {"shown"}


def test_a_picture_whose_bytes_are_not_those_of_the_ledger_is_not_shown(run: Path) -> None:
    shutil.copy(run / "fetch" / "00001.tar", run / "fetch" / "00000.tar")
    (run / "fetch" / "00002.tar").write_bytes(b"cut")
    write_report(run)
    rejected = [s for sheet in values_of(run)["sheets"] for s in sheet["samples"] if not s["kept"]]
    assert {s["picture"] for s in rejected if s["shard"] == "00000"} == {"its shard does not hold it"}
    assert {s["picture"] for s in rejected if s["shard"] == "00002"} == {"its shard cannot be read"}


HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "<a href=\"javascript:document.title='owned'\">press</a>",
    "</title></style></svg><iframe src='http://127.0.0.1:9/'></iframe>",
)


def poison(run: Path) -> None:
    """Put hostile text wherever a report takes text from: reasons, keys, addresses, errors, the recipe, weights."""

    def edit(rows: list[dict[str, Any]]) -> None:
        for row, text in zip((row for row in rows if not row["kept"] and row["sha256"]), HOSTILE, strict=False):
            row.update(rejected_by=text, reason=text, url=f"javascript:alert('{text}')")
        for row in rows:
            row["url"] = row["url"] or HOSTILE[0]

    for path in (run / "curate").glob("*.parquet"):
        edit_ledger(path, edit)
    recount(run / "curate")
    weights, failed = dict.fromkeys(HOSTILE, SHA256), {HOSTILE[0]: HOSTILE[1]}
    edit_manifest(run / "curate", lambda v: v.update(weights=weights, failed=failed))
    edit_manifest(run / "fetch", lambda v: v["rejected"].update({HOSTILE[3]: {HOSTILE[2]: 0}}))
    edit_manifest(run / "rank", lambda v: v["extra"].update(faults={"facecaption": {HOSTILE[0]: 1}}))
    recipe = json.loads((run / "curate" / "recipe.json").read_text())
    recipe.update(name=HOSTILE[3], description=HOSTILE[1])
    recipe["filters"][0]["measure"]["weights"] = HOSTILE[0]
    edit_manifest(run / "curate", lambda v: v.update(recipe=recipe))


def test_hostile_text_stays_text(finished: Path, run: Path) -> None:
    honest = Elements(page_of(finished))
    poison(run)
    write_report(run)
    page = Elements(page_of(run))
    assert set(page.tags) - set(honest.tags) <= {"br", "em"}
    assert {(tag, name) for tag, name, _ in page.attributes} <= {(tag, name) for tag, name, _ in honest.attributes}
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.values("src"))
    assert all(target.startswith("#") for target in page.values("href"))
    assert all(text in page.text for text in HOSTILE)


def test_a_caption_is_shown_as_text_on_one_line(run: Path) -> None:
    for tar in (run / "curate").glob("*.tar"):
        # Captions read `caption of NNNNN`; text of the same length leaves the tar whole.
        tar.write_bytes(tar.read_bytes().replace(b"caption of", b"<b>\n\0</b> "))
    write_report(run)
    page = Elements(page_of(run))
    assert "“<b> </b> " in page.text and "\0" not in page.text


def test_weights_carry_their_licence_and_say_so_where_none_is_stated(run: Path) -> None:
    known = next(entry for entry in catalogue() if entry.name == "mobilefacenet_insightface_128d")
    weights = {known.name: known.sha256, "centerface": SHA256}
    edit_manifest(run / "curate", lambda value: value.update(weights=weights))
    write_report(run)
    by_name = {entry["name"]: entry for entry in values_of(run)["weights"]}
    assert by_name[known.name]["licence"] == "unstated" and by_name[known.name]["is_catalogued"]
    assert by_name["centerface"]["licence"] == "unstated" and not by_name["centerface"]["is_catalogued"]
    assert known.sha256 in Elements(page_of(run)).text


def test_a_recipe_without_the_cascade_says_so_and_how_to_run_it(finished: Path) -> None:
    text = Elements(page_of(finished)).text
    assert "The LBP cascade was not exercised." in text
    assert f"facecaptionhq models pull {CASCADE}" in text
    assert CASCADE in {entry.name for entry in catalogue()}
    assert "anime" in {plan.name for plan in load_recipe("facecaptionhq-4m").filters}


def test_a_command_on_the_page_can_be_typed_wherever_the_pictures_lie(run: Path) -> None:
    report = read_report(run)
    makings = tuple(replace(making, source="/my photos/$HOME") for making in report.makings)
    assert "curate &#39;/my photos/$HOME&#39; OTHER_RUN/curate" in render(replace(report, makings=makings))


def test_faults_of_the_metadata_stand_beside_the_rows_that_were_read(finished: Path) -> None:
    assert values_of(finished)["metadata_faults"]["facecaption"] == {"box_broken": 3, "url_extra_text": 2}
    assert "box_broken" in Elements(page_of(finished)).text


def test_every_bar_counts_and_no_bar_is_lost(finished: Path) -> None:
    for spread in values_of(finished)["scores"]:
        bins = spread["histogram"]
        num_drawn = sum(sum(bins[fate]) for fate in ("kept", "rejected_here", "rejected_elsewhere"))
        assert num_drawn == spread["num_measured"] - spread["num_not_finite"]
        assert sum(bins["rejected_here"]) == spread["num_rejected"]


def test_the_choice_of_samples_does_not_depend_on_the_order_of_shards_or_rows(run: Path) -> None:
    criteria = criteria_of(json.loads((run / "curate" / "recipe.json").read_text()))
    ledgers = sorted((run / "curate").glob("*.parquet"))
    spreads = [spread_of(criterion, ledgers) for criterion in criteria]

    def uids(choices: tuple[Choice, ...]) -> list[tuple[str, str, set[str]]]:
        rows = {path.stem: pq.read_table(path).to_pylist() for path in ledgers}
        return [(c.kind, c.name, {rows[p.shard][p.row]["uid"] for p in c.places}) for c in choices]

    one = uids(choose(ledgers, spreads, ["colour"]))
    for path in ledgers:
        edit_ledger(path, list.reverse)
    assert uids(choose(ledgers[::-1], spreads, ["colour"])) == one


def test_the_recipe_stands_on_the_page_as_the_run_resolved_it(finished: Path) -> None:
    text = Elements(page_of(finished)).text
    manifest = read_manifest(finished / "curate")
    assert manifest.recipe_digest in text and "chroma_floor" in text and "Keeps colour." in text
    assert RECIPE.splitlines()[2].split('"')[1] in text


def test_gates_that_had_nothing_to_judge_by_are_named_with_their_waiver(run: Path) -> None:
    assert values_of(run)["blind_gates"] == []
    blind = {"blind_gates": ["nsfw"], "waiver": "<b>pictures of our own</b>"}
    edit_manifest(run / "rank", lambda value: value["extra"].update(blind))
    write_report(run)
    assert (values_of(run)["blind_gates"], values_of(run)["waiver"]) == (["nsfw"], blind["waiver"])
    assert "No metadata says what nsfw would judge by" in page_of(run)
    assert "&lt;b&gt;pictures of our own&lt;/b&gt;" in page_of(run)


def test_two_runs_are_held_against_each_other_by_who_changed_sides_and_why(finished: Path, run: Path) -> None:
    shutil.rmtree(run / "pack")
    scores = sorted(row["colour_scores"]["mean_channel_std"] for row in rows_of(run) if row["kept"])
    middle = f"{scores[len(scores) // 2]:.1f}"
    stricter = RECIPE.replace("min = 2.0", f"min = {middle}").replace("max = 45.0", "max = 400.0")
    decide(run, recipe_from(run.parent, stricter), ALONE)
    write_report(run, ReportOptions(against=str(finished)))
    now, before = rows_of(run), {row["uid"]: row for row in rows_of(finished) if row["reason"] != "duplicate_uid"}
    rows = [row for row in now if row["reason"] != "duplicate_uid"]
    went = [row for row in rows if before[row["uid"]]["kept"] and not row["kept"]]
    came = [row for row in rows if not before[row["uid"]]["kept"] and row["kept"]]
    compared = values_of(run)["against"]
    counts = Counter[str]()
    for move in compared["moves"]:
        counts[move["kind"]] += move["count"]
    assert went and (counts["went out"], counts["came in"]) == (len(went), len(came))
    assert compared["num_both"] == len(before) and compared["num_only_now"] == compared["num_only_before"] == 0
    changed = {difference["key"]: (difference["before"], difference["now"]) for difference in compared["differences"]}
    assert changed["filters.colour.keep.mean_channel_std.min"] == ("2.0", middle)
    shown = [s for sheet in values_of(run)["sheets"] if sheet["kind"] == "changed" for s in sheet["samples"]]
    assert {row["uid"] for row in went} <= {sample["uid"] for sample in shown}
    assert "Kept there" in Elements(page_of(run)).text
    with pytest.raises(UsageError, match="nowhere"):
        write_report(run, ReportOptions(against=str(run.parent / "nowhere")))


def test_what_screens_settled_is_drawn_where_nothing_was_measured(finished: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", RECIPE.split("keep.toning")[0] + SCREENS)
    write_report(run)
    (spread,) = values_of(run)["scores"]
    assert (spread["num_measured"], spread["num_proven_kept"] > 0) == (0, True)
    text = Elements(page_of(run)).text
    assert f"by screens: {spread['num_proven_kept']} inside, 0 outside" in text and "Nothing was measured" not in text
    assert "Settled without" not in Elements(page_of(finished)).text


def test_a_score_that_is_the_same_for_everybody_decided_about_nobody(finished: Path) -> None:
    one, other = criteria_of(json.loads((finished / "curate" / "recipe.json").read_text()))
    varied = spread_of(one, sorted((finished / "curate").glob("*.parquet")))
    same = replace(varied, criterion=other, quantiles=(44.9,) * 1001)
    row = {"kept": True, "scores": {one.name: 30.0, other.name: 44.9}, "proven": {one.name: None, other.name: None}}
    assert deciding(row, [same, varied]) == one == deciding(row, [varied, same])
    assert (same.reach, varied.reach > 0) == (0.0, True)


@pytest.mark.slow
def test_as_many_pictures_as_are_asked_for_are_drawn_by_a_seed(run: Path) -> None:
    def kept(asked: ReportOptions) -> list[str]:
        write_report(run, asked)
        (sheet,) = [sheet for sheet in values_of(run)["sheets"] if sheet["kind"] == "kept"]
        return [sample["uid"] for sample in sheet["samples"]]

    every = sum(row["kept"] for row in rows_of(run))
    assert [len(kept(ReportOptions(num_per_group=number))) for number in (3, 100)] == [3, every]
    assert len({tuple(kept(ReportOptions(num_per_group=2, seed=seed, max_side_px=64))) for seed in range(3)}) > 1


def test_the_page_says_what_the_pictures_are_and_when_and_where_it_was_made(finished: Path) -> None:
    parts = {part["name"]: {row["label"]: row for row in part["slices"]} for part in values_of(finished)["composition"]}
    kept = sum(row["kept"] for row in rows_of(finished))
    assert parts["shorter side"]["0 to 255 px"]["num_kept"] == kept
    assert parts["host"]["example.org"]["num_seen"] == len(rows_of(finished))
    assert sum(row["num_kept"] for row in parts["caption language"].values()) == kept
    assert parts["copies"]["duplicate_uid (curate)"]["num_seen"] == 3
    made = {making["stage"]: making for making in values_of(finished)["making"]}["curate"]
    assert made["source"].endswith("/fetch") and made["target"].endswith("/curate") and made["hosts"]
    assert made["begun"] <= made["ended"] and {"numpy", "pillow", "machine"} <= made["runtime"].keys()
    assert made["begun"][:16] in Elements(page_of(finished)).text


def test_all_scores_of_a_picture_are_told_the_one_that_decided_first(finished: Path) -> None:
    for sample in (s for sheet in values_of(finished)["sheets"] for s in sheet["samples"] if s["deciding"]):
        names = [score["name"] for score in sample["scores"]]
        assert names[0] == sample["deciding"] and {"colour.chromatic_share", "colour.hue_spread_deg"} < set(names)
