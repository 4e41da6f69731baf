"""Nothing that comes from the world reaches a terminal raw, and no line of ours can be forged by it."""

import io
import json
import logging
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cli
from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.commands.report.page import _environment
from curation.dataset.manifest import ShardReport
from curation.errors import UsageError, VerificationError
from curation.images.decode import UnreadableError
from curation.interrupts import said_of_interrupt
from curation.printable import OneLine, indented, joined, printable
from curation.run.progress import progress
from curation.run.runner import ShardFailure, Spread
from facemakeup.faults import DataError
from tests.curation.shards import RECIPE, colourful, recipe_from, sample_members, write_shard
from tests.serving import Web, serving

EVIL = "e\x1b[2J\x9b2K\rv\u202ei\u2066l\x7f\nforged: kept by every stage"
FORGED = "forged"
ALONE = Spread(num_workers=0)


def is_harmless(text: str) -> bool:
    return all(char == "\n" or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in text)


def run(*words: object) -> int:
    """Do what the command line does, in this process."""
    try:
        return cli.app([str(word) for word in words], standalone_mode=False) or 0
    except Exception as error:  # noqa: BLE001  as the command line does
        return cli._refuse(error)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an evil name: a source, one whose tar is torn, a run, and its recipe."""
    folder = tmp_path_factory.mktemp("evil") / EVIL
    samples = [sample_members(f"{number}", colourful(number), url=f"http://{number}.org/{EVIL}") for number in range(3)]
    write_shard(folder / "in", "00000", samples)
    torn = write_shard(folder / "torn", "00000", samples)
    torn.write_bytes(torn.read_bytes()[:-12000])
    recipe = recipe_from(folder, RECIPE)
    curate(folder / "in", folder / "run" / "curate", recipe, ALONE)
    pack(folder / "run" / "curate", folder / "run" / "pack", recipe, ALONE)
    (folder / "run" / "pack" / EVIL).write_bytes(b"stray")
    (folder / "list").write_text("uid:" + "0" * 32 + "\n")
    return folder


COMMANDS = {
    "curate": (0, ["curate", "{0}/in", "{0}/run/curate", "--recipe", "{0}/recipe.toml", "--workers", "0", "--profile"]),
    "curate-torn": (1, ["curate", "{0}/torn", "{0}/out", "--recipe", "{0}/recipe.toml", "--workers", "0"]),
    "curate-nothing": (2, ["curate", "{0}/none", "{0}/out2", "--recipe", "{0}/recipe.toml", "--workers", "0"]),
    "pack": (0, ["pack", "{0}/run/curate", "{0}/run/pack", "--recipe", "{0}/recipe.toml", "--workers", "0"]),
    "decide": (0, ["decide", "{0}/run", "--recipe", "{0}/recipe.toml", "--dry-run"]),
    "order": (0, ["order", "{0}/in", "--recipe", "{0}/recipe.toml", "--sample", "3"]),
    "report": (0, ["report", "{0}/run"]),
    "verify": (0, ["verify", "{0}/run", "--workers", "0"]),
    "gc": (0, ["gc", "{0}/run", "--dry-run"]),
    "why": (0, ["why", "{0}/run", f"http://1.org/{EVIL}"]),
    "why-nobody": (2, ["why", "{0}/run", EVIL]),
    "forget": (2, ["forget", "{0}/nowhere", "--list", "{0}/list"]),
    "rank": (2, ["rank", "{0}/none", "{0}/none", "{0}/rank", "--recipe", "{0}/recipe.toml"]),
    "fetch": (2, ["fetch", "{0}/none", "{0}/fetch", "--recipe", "{0}/recipe.toml"]),
    "plan": (2, ["plan", "{0}/none", "--recipe", "{0}/recipe.toml"]),
    "import": (2, ["import", "{0}/none", "{0}/rows.parquet"]),
    "doctor": (2, ["doctor", "--recipe", "{0}/none.toml"]),
    "models": (6, ["models", "pull", EVIL]),
    "train": (2, ["train", "{0}/none.toml", "--data", "{0}/*.tar", "--out", "{0}/t"]),
    "usage": (2, ["curate", "a", "b", EVIL]),
    "option": (2, ["curate", "a", "b", f"--{EVIL}"]),
    "choice": (2, ["curate", "a", "b", "--workers", EVIL]),
}


SAYS_NOTHING_OF_IT = {"decide", "choice"}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_what_would_act_on_a_terminal_or_look_like_a_line_of_its_own(
    evil: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, words = COMMANDS[name]
    assert run(*(word.replace("{0}", str(evil)) for word in words)) == code
    out = capsys.readouterr()
    said = out.out + out.err
    assert is_harmless(said)
    assert (FORGED in said) == (name not in SAYS_NOTHING_OF_IT)
    assert not any(line.strip().startswith(FORGED) for line in said.splitlines())


def test_json_stays_json_and_gives_back_what_it_was_given(evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("why", evil / "run", f"http://1.org/{EVIL}", "--json") == 0
    said = capsys.readouterr().out
    assert is_harmless(said) and EVIL in json.loads(said)[0]["url"]


@given(st.text())
def test_a_line_stays_one_line_and_what_is_harmless_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and joined([text, text]) == f"{shown}\n{shown}"
    assert printable(shown) == shown
    assert all(line.startswith("  ") and is_harmless(line) for line in indented(text).split("\n") if text)


def test_each_fault_of_an_error_is_a_line_and_stays_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for kind in (UsageError, VerificationError, DataError):
        assert cli._refuse(kind("a: two faults:", "  one\nFAULT", "  two")) == kind.exit_code
        assert capsys.readouterr().err == "facecaptionhq: a: two faults:\n  one\\nFAULT\n  two\n"
    assert cli._refuse(UnreadableError("truncated", "cut")) == 70
    assert capsys.readouterr().err == "facecaptionhq: truncated: cut\n"


def test_warnings_of_libraries_and_logs_are_a_line_each_with_the_traceback_under_it() -> None:
    try:
        raise ValueError(EVIL)
    except ValueError:
        record = logging.LogRecord("x", logging.WARNING, "x", 1, "%s", (EVIL,), sys.exc_info())
    first, *others = OneLine("%(levelname)s %(message)s").format(record).split("\n")
    assert first == f"WARNING {printable(EVIL)}"
    assert others and all(line.startswith("  ") and is_harmless(line) for line in others)


def test_a_shard_that_failed_is_told_of_once_without_its_evil(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(log)])
    with progress("curate") as on_outcome:
        on_outcome(ShardFailure(EVIL, EVIL))
        on_outcome(ShardFailure(EVIL, f"Traceback\n{EVIL}", is_bug=True))
        on_outcome(ShardReport(EVIL, "work", 1, 1, {}, {}))
    said = capsys.readouterr().err
    assert "shard failed" not in said + log.getvalue()
    assert is_harmless(said) and not any(line.startswith(FORGED) for line in said.splitlines())


def test_the_page_of_the_report_holds_no_such_character() -> None:
    page = _environment().from_string("<p>{{ text }}</p>{{ number }}").render(text=f"<{EVIL}", number=3)
    assert is_harmless(page) and page.startswith("<p>&lt;e\\u001b[2J") and page.endswith("</p>3")


def test_a_bug_is_told_with_every_line_of_its_traceback_indented(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ZeroDivisionError(EVIL)
    except ZeroDivisionError as error:
        assert cli._refuse(error) == 70
    *told, last = capsys.readouterr().err.rstrip("\n").split("\n")
    assert all(line.startswith("  ") for line in told) and last.startswith("facecaptionhq: this is a bug")
    assert is_harmless("".join(told))


def test_who_interrupts_what_keeps_nothing_is_not_told_that_it_goes_on() -> None:
    for words in (["plan", "run/rank"], ["--quiet", "verify", "run"]):
        assert "begins anew" in said_of_interrupt(words) and "stays" not in said_of_interrupt(words)
    assert said_of_interrupt(["curate", "plan", "out"]).endswith("the same command goes on")


class Forbidding(BaseHTTPRequestHandler):
    """A store that knows nobody."""

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _refuse

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives it
        pass


@pytest.fixture
def forbidding() -> Iterator[str]:
    with serving(Web(Forbidding)) as web:
        yield web.address


AT_A_STORE = {
    "curate from": ["curate", "s3://b/in", "{0}/s3out", "--workers", "0"],
    "curate to": ["curate", "{0}/in", "s3://b/out", "--workers", "0"],
    "pack": ["pack", "s3://b/run/curate", "s3://b/run/pack", "--workers", "0"],
    "decide": ["decide", "s3://b/run", "--workers", "0"],
    "verify": ["verify", "s3://b/run", "--workers", "0"],
    "gc": ["gc", "s3://b/run"],
    "why": ["why", "s3://b/run", "x"],
    "forget": ["forget", "s3://b/run", "--list", "{0}/list"],
}


@pytest.mark.parametrize(
    "name", ["verify", *(pytest.param(name, marks=pytest.mark.slow) for name in AT_A_STORE if name != "verify")]
)
@pytest.mark.parametrize("trouble", ["forbidden", "no credentials", "an address that is none"])
def test_a_store_that_refuses_is_one_line_and_no_bug(
    evil: Path,
    forbidding: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    trouble: str,
) -> None:
    s3fs = pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable, raising=False)
        if trouble != "no credentials":
            monkeypatch.setenv(variable, "test")
    for variable, value in {
        "AWS_ENDPOINT_URL": "nonsense" if "none" in trouble else forbidding,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(evil / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(evil / "none"),
    }.items():
        monkeypatch.setenv(variable, value)
    s3fs.S3FileSystem.clear_instance_cache()
    words = [word.replace("{0}", str(evil)) for word in AT_A_STORE[name]]
    if words[0] in ("curate", "pack", "decide"):
        words += ["--recipe", str(evil / "recipe.toml")]
    monkeypatch.setattr(sys, "argv", ["facecaptionhq", *words])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(*words) in (1, 2)
    s3fs.S3FileSystem.clear_instance_cache()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("facecaptionhq: s3://b/") or "s3://b/" in line
