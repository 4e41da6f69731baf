import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

import cli
from curation.arguments import path, place
from curation.commands.doctor.examine import Finding
from curation.commands.doctor.text import tell
from tests.curation.shards import RECIPE, mixed_source
from tests.filters.marks import with_models

COMMAND = [sys.executable, "-m", "cli"]
HEAVY = ("torch", "cv2", "ray", "pyarrow", "onnxruntime", "datasets", "webdataset", "img2dataset", "duckdb", "easyocr")


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.mark.slow
def test_the_stages_run_one_after_the_other_and_print_what_they_did(tmp_path: Path, recipe: Path) -> None:
    source = mixed_source(tmp_path / "in", 2)
    curated = run("curate", source, tmp_path / "run/curate", "--recipe", recipe, "--workers", 0)
    assert (curated.returncode, curated.stderr.count("8 seen, 4 kept")) == (0, 2)
    assert curated.stdout.startswith("curate: 16 seen = 8 kept + ")
    packed = run("pack", tmp_path / "run/curate", tmp_path / "run/pack", "--recipe", recipe, "--workers", 0, "--json")
    summary = json.loads(packed.stdout)
    assert (packed.returncode, summary["num_seen"], summary["num_kept"]) == (0, 8, 8)
    reported = run("report", tmp_path / "run")
    assert reported.returncode == 0 and Path(reported.stdout.strip()).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("where", ["-", "log.jsonl"])
def test_the_log_has_one_json_line_per_shard(tmp_path: Path, recipe: Path, where: str) -> None:
    source = mixed_source(tmp_path / "in", 2)
    (source / "00001.tar").write_bytes((source / "00001.tar").read_bytes()[:-12000])
    where = where if where == "-" else str(tmp_path / where)
    done = run("curate", source, tmp_path / "out", "--recipe", recipe, "--workers", 0, "--log-json", where, "--json")
    written = Path(where).read_text() if where != "-" else done.stderr.rpartition("1 shard failed")[0]
    committed, failed = (json.loads(line) for line in written.splitlines())
    assert (committed["shard"], committed["message"], committed["num_seen"]) == ("00000", "shard committed", 8)
    assert committed["num_kept"] + sum(sum(by.values()) for by in committed["rejected"].values()) == 8
    assert (failed["shard"], failed["level"], "00001.tar" in failed["error"]) == ("00001", "error", True)
    assert ("8 seen" in done.stderr) == (where != "-")


@pytest.mark.slow
def test_a_failed_shard_is_named_and_leaves_exit_code_one(tmp_path: Path, recipe: Path) -> None:
    source = mixed_source(tmp_path / "in", 2)
    (source / "00001.tar").write_bytes(b"torn")
    result = run("curate", source, tmp_path / "out", "--recipe", recipe, "--workers", 0)
    assert result.returncode == 1
    assert "00001.tar" in result.stderr and "the same command again retries" in result.stderr


def takes_path(hint: Any) -> bool:
    kind = hint.__origin__
    return kind is Path or any(part is Path or Path in get_args(part) for part in get_args(kind))


def test_no_argument_that_is_read_on_this_disk_alone_takes_an_address_for_a_folder() -> None:
    commands = [command.callback for app in (cli.app, cli.models_app) for command in app.registered_commands]
    hints = [hint for call in commands if call for hint in get_type_hints(call, include_extras=True).items()]
    local = {name: hint.__metadata__[0] for name, hint in hints if get_origin(hint) is Annotated and takes_path(hint)}
    assert {"facecaption", "target", "hash_list", "blocklist", "detections", "config", "face"} <= local.keys()
    assert [name for name, parameter in local.items() if parameter.parser is not path] == []
    assert path("file:///a/b") == Path("/a/b") and path("a/b") == Path("a/b") and place("./a") == "./a"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["curate", "nowhere", "out", "--recipe", "facecaptionhq-5m"], 2, "no such recipe; give a TOML file or one of"),
        (["curate", "nowhere", "out", "--recipe", "{recipe}"], 2, "nowhere: no such folder"),
        (["pack", ".", "out", "--recipe", "{recipe}"], 2, "no manifest"),
        (["fetch", "nothing", "out", "--recipe", "{recipe}"], 2, "nothing: no such folder; give the one that rank"),
        (["models", "pull", "nothing"], 6, "nothing"),
        (["curate", "."], 2, "Missing argument"),
        (["report", "nowhere"], 2, "nowhere"),
        (["rank", "a", "b", "s3://bucket/run/rank"], 2, "'target': s3://bucket/run/rank is an address, and this is"),
        (["fetch", "a", "b", "--hash-list", "gs://bucket/list"], 2, "'--hash-list': gs://bucket/list is an address"),
    ],
)
def test_what_is_wrong_is_one_message_and_its_own_exit_code(
    tmp_path: Path, recipe: Path, arguments: list[str], code: int, message: str
) -> None:
    result = run(*(argument.format(recipe=recipe) for argument in arguments), cwd=tmp_path)
    assert (result.returncode, message in result.stderr) == (code, True), result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["plan", "run/rank", "--order", "--sample", "12", "--json"], ["plan", "--order"]]
)
def test_the_old_spelling_of_the_cheapest_order_is_turned_away_in_one_line_that_names_the_new_one(
    arguments: list[str],
) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "facecaptionhq order SOURCE" in line
    assert "--order" not in run("plan", "--help").stdout


@pytest.mark.slow
def test_missing_weights_stop_a_run_before_it_starts_and_say_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = mixed_source(tmp_path / "in", 1)
    result = run("curate", source, tmp_path / "out", "--recipe", "facecaptionhq-4m", "--workers", 0)
    assert result.returncode == 6
    assert "FACECAPTIONHQ_MODELS" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["curate", "--help"], ["curate", "a", "b", "--recipe", "{typo}"]])
def test_help_and_a_typo_in_a_recipe_answer_without_loading_a_heavy_library(
    tmp_path: Path, arguments: list[str]
) -> None:
    typo = tmp_path / "typo.toml"
    typo.write_text(RECIPE.replace("[[filters]]", "[[filter]]"))
    probe = (
        "import sys, cli\n"
        "try:\n    cli.main()\n"
        f"finally:\n    print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    words = [argument.format(typo=typo) for argument in arguments]
    result = subprocess.run([sys.executable, "-c", probe, *words], capture_output=True, text=True, check=False)
    assert "HEAVY []" in result.stdout, result.stdout + result.stderr


def test_models_are_listed_with_licence_and_hash() -> None:
    entries = json.loads(run("models", "list", "--json").stdout)
    assert {"yolov5n-face", "lbpcascade_animeface", "craft_mlt_25k", "centerface"} <= {
        entry["name"] for entry in entries
    }
    assert all(entry["licence"] and len(entry["sha256"]) == 64 for entry in entries)


@pytest.mark.slow
@with_models
def test_pull_takes_files_from_a_mirror_once_their_terms_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("models", "pull", "yolov5n-0.5-face", "--mirror", Path(os.environ["FACECAPTIONHQ_MODELS"]) / "ncnn")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused, pulled = run(*command), run(*command, "--accept")
    assert (refused.returncode, "GPL-3.0" in refused.stderr) == (6, True)
    assert (pulled.returncode, Path(pulled.stdout.strip()).name) == (0, "yolov5n-0.5-face.onnx")


@pytest.mark.slow
def test_the_doctor_finds_one_owner_of_cv2_and_says_how_to_mend_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ill = run("doctor", "--recipe", "facecaptionhq-4m", "--json")
    findings = {values["subject"]: Finding(**values) for values in json.loads(ill.stdout)}
    for healthy in ("cv2 has one owner", "cv2 has the cascade classifier", "torch and torchvision", "ray"):
        assert findings[healthy].ok
    is_fit = all(finding.ok for subject, finding in findings.items() if not subject.startswith("weights"))
    assert ill.returncode == (6 if is_fit else 2)
    told = tell(list(findings.values()))
    assert "BAD  weights yolov5n-0.5-face: missing" in told and "mend: " in told


@pytest.mark.slow
def test_a_recipe_that_the_doctor_does_not_find_is_exit_code_two() -> None:
    told = run("doctor", "--recipe", "nothing")
    assert (told.returncode, "recipe nothing" in told.stdout) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_answered_with_the_command_that_goes_on(tmp_path: Path, number: int, code: int) -> None:
    requests = tmp_path / "a list"
    os.mkfifo(requests)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    call = [*COMMAND, "forget", str(tmp_path), "--list", str(requests)]
    with (
        subprocess.Popen(call, stderr=subprocess.PIPE, text=True) as process,
        requests.open("w"),  # opens as soon as the command does, which then waits for a first line
    ):
        process.send_signal(number)
        _, told = process.communicate()
    assert (process.returncode, "Traceback" in told) == (code, False), told
    assert told.endswith(f"the same command goes on:\n  facecaptionhq forget {tmp_path} --list '{requests}'\n")


@pytest.mark.slow
def test_sigterm_ends_a_run_on_ray_like_any_other(tmp_path: Path, recipe: Path) -> None:
    source = mixed_source(tmp_path / "in", 40)
    call = [*COMMAND, "curate", str(source), str(tmp_path / "out"), "--recipe", str(recipe), "--workers", "1"]
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        first = next((line for line in lines if line.startswith("curate 00")), "")
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert first and (process.returncode, "SIGTERM received" in rest) == (143, False), rest
    assert "committed by this call" in rest and "the same command goes on" in rest


@pytest.mark.slow
def test_quiet_leaves_results_and_failures(tmp_path: Path, recipe: Path) -> None:
    source = mixed_source(tmp_path / "in", 1)
    told = run("--quiet", "curate", source, tmp_path / "out", "--recipe", recipe, "--workers", 0)
    assert (told.returncode, told.stderr) == (0, "") and told.stdout.startswith("curate: 8 seen")


@pytest.mark.slow
def test_weights_whose_bytes_are_others_are_refused_with_exit_code_six(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "yolov5n-face.onnx").write_bytes(b"not these")
    result = run("models", "verify")
    assert result.returncode == 6
    marks = {line.split()[1].rstrip(":"): line.split()[0] for line in result.stdout.splitlines()}
    assert (marks["yolov5n-face"], set(marks.values()) - {"ok"}) == ("WRONG", {"WRONG", "missing"})
    assert "yolov5n-face.onnx has sha256" in result.stdout
    (tmp_path / "yolov5n-face.onnx").unlink()
    assert run("models", "verify").returncode == 0


@pytest.mark.slow
def test_weights_that_the_user_confirms_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"weights")
    wrong = run("models", "add", file, "--name", "mine", "--sha256", "0" * 64)
    assert wrong.returncode == 6
    right = run("models", "add", file, "--name", "mine", "--sha256", hashlib.sha256(b"weights").hexdigest())
    assert (right.returncode, right.stdout.strip()) == (0, str(file))
