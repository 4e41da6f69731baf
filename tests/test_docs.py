import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from cli import app
from curation.errors import FaceCaptionError, RecipeError, UsageError
from curation.recipe.filter_plan import filter_names
from curation.recipe.recipe import RecipeFile, bundled_recipes, recipe_of
from curation.recipe.validation import validated
from facemakeup.evaluation.settings import EvaluationSettings
from facemakeup.train_config import config_of
from tests.curation.whole_run import write_run
from tests.places import ROOT
from tests.snippets import Block, blocks, calls, names_in_prose, parse, require_imports

README = (ROOT / "README.md").read_text()
CALLS = [(block.place, words) for kind in ("", "sh") for block in blocks(kind) for words in calls(block.text)]


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command by the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


COMMANDS = dict(commands(get_command(app)))


def test_the_readme_names_every_command_filter_and_recipe() -> None:
    for name in COMMANDS:
        assert f"facecaptionhq {name}" in README, name
    for name in (*filter_names(), *bundled_recipes()):
        assert f"`{name}`" in README or f"--recipe {name}" in README, name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_in_one_sentence_what_it_does_and_of_each_parameter_what_it_is(name: str) -> None:
    summary, _, _ = (COMMANDS[name].help or "").partition("\n\n")
    assert summary.endswith(".") and "\n" not in summary, summary
    untold = [param.name for param in COMMANDS[name].params if not getattr(param, "help", None)]
    assert untold == []
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert (shown.exit_code, summary in " ".join(shown.output.split())) == (0, True), shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_a_call_of_itself_that_the_program_takes(name: str) -> None:
    (words,) = calls((COMMANDS[name].epilog or "").removeprefix("Example: "))
    parse(words)
    assert words[: len(name.split())] == name.split()


def test_help_shows_the_commands_in_groups() -> None:
    shown = CliRunner().invoke(app, ["-h"]).output
    places = [shown.index(f" {group} ─") for group in ("Stages", "Afterwards", "Training", "Tools")]
    assert places == sorted(places) and " Commands ─" not in shown


@pytest.mark.parametrize(("place", "words"), CALLS, ids=[f"{place} {words[0]}" for place, words in CALLS])
def test_every_command_line_of_the_documentation_is_one_that_the_program_takes(place: str, words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("rank a b", typer.TyperException),
        ("rank a b c d", typer.TyperException),
        ("rank a b c --recipes demo", typer.TyperException),
        ("fetch a b --workers many", typer.TyperException),
        ("curate a b \\\n  --workers -1", typer.TyperException),
        ("decide run --dry-run", typer.TyperException),
        ("orders run", typer.TyperException),
        ("models pul NAME", typer.TyperException),
        ("plan run/rank --order", UsageError),
        ("generate adapter --prompt red --out pictures", typer.TyperException),
    ],
)
def test_a_command_line_that_the_program_would_refuse_is_found(line: str, error: type[Exception]) -> None:
    (words,) = calls(f"facecaptionhq {line}  # and why\nls\n")
    with pytest.raises(error):
        parse(words)


def test_a_call_ends_where_the_shell_goes_on() -> None:
    text = "facecaptionhq plan run/rank --json > run/forecast.json\nfacecaptionhq models list | grep 'a b'\n"
    assert list(calls(text)) == [["plan", "run/rank", "--json"], ["models", "list"]]
    (words,) = calls('accelerate launch --num_processes 8 --module cli train a.toml --data "run/*.tar" --out b\n')
    assert words == ["train", "a.toml", "--data", "run/*.tar", "--out", "b"]


def test_help_may_be_asked_of_every_command_that_there_is() -> None:
    parse(["--help"])
    parse(["models", "pull", "--help"])
    with pytest.raises(typer.TyperException):
        parse(["modles", "--help"])


def test_the_main_job_and_the_training_are_among_the_calls_that_are_parsed() -> None:
    shown = {words[0] for _, words in CALLS}
    assert {"rank", "plan", "fetch", "curate", "pack", "report", "verify", "decide", "train", "generate"} <= shown


def test_every_command_that_prose_names_is_there() -> None:
    named = list(names_in_prose())
    assert ["models", "pull", "NAME"] in [words for _, words in named]
    for page, words in named:
        try:
            parse(words, is_prose=True)
        except (typer.TyperException, FaceCaptionError) as error:
            pytest.fail(f"{page}: facecaptionhq {' '.join(words)}: {error}")


@pytest.fixture(scope="module")
def beside_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `run` lies, ranked, curated and packed."""
    folder = tmp_path_factory.mktemp("documentation")
    write_run(folder / "run")
    return folder


RUNNABLE = [block for block in blocks("python") if block.kind == "python"]


@pytest.mark.slow
@pytest.mark.parametrize("block", RUNNABLE, ids=[block.place for block in RUNNABLE])
def test_every_python_snippet_runs_beside_a_run_and_shows_something_of_it(block: Block, beside_a_run: Path) -> None:
    variables = {**os.environ, "HF_HOME": str(beside_a_run / "cache")}
    command = [sys.executable, "-c", block.text]
    done = subprocess.run(command, cwd=beside_a_run, env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, bool(done.stdout)) == (0, True), done.stderr


def test_a_python_snippet_that_says_why_it_cannot_run_is_compiled_and_finds_what_it_imports() -> None:
    for block in blocks("python"):
        require_imports(block.text)
    require_imports("from curation.run import costs\nimport os.path\n")
    for wrong in ("from curation.commands.plan.forecast import no_such_name\n", "import curation.no_such_module\n"):
        with pytest.raises(ImportError):
            require_imports(wrong)
    with pytest.raises(SyntaxError):
        require_imports("for sample in:\n")


def require_settings(piece: Mapping[str, Any], place: str) -> None:
    """Make sure that a recipe, training or evaluation takes these tables, and that one filter's are the recipe's.

    Raises:
        RecipeError: a key does not hold.
    """
    if isinstance(piece.get("filters"), Mapping):
        texts = [(ROOT / "configs" / f"{name}.toml").read_text() for name in bundled_recipes()]
        stanzas = [stanza for text in texts for stanza in tomllib.loads(text)["filters"]]
        if not any({**stanza, **piece["filters"]} == stanza for stanza in stanzas):
            raise RecipeError(f"{place}: no filter of a bundled recipe has these settings")
        return
    if "methods" in piece:
        whole = tomllib.loads((ROOT / "configs" / "evaluation" / "unsplash-face.toml").read_text())
        validated(EvaluationSettings, {**whole, **piece}, place, "")
        return
    is_recipe = piece.keys() <= RecipeFile.model_fields.keys()
    whole = tomllib.loads((ROOT / "configs" / ("demo.toml" if is_recipe else "train/tiny.toml")).read_text())
    tables = {name: {**whole.get(name, {}), **value} for name, value in piece.items() if isinstance(value, Mapping)}
    (recipe_of if is_recipe else config_of)({**whole, **piece, **tables}, place)


@pytest.mark.parametrize("block", blocks("toml"), ids=[block.place for block in blocks("toml")])
def test_every_toml_snippet_holds_where_it_belongs(block: Block) -> None:
    require_settings(tomllib.loads(block.text), block.place)


@pytest.mark.parametrize(
    "text",
    [
        "[curate]\nnum_gpu = 1\n",
        "[filters.screens]\nfilter = 'text_map'\n",
        "[run]\nfdsp = true\n",
        "[curats]\na = 1\n",
    ],
)
def test_a_toml_snippet_with_a_wrong_key_is_found(text: str) -> None:
    with pytest.raises(RecipeError):
        require_settings(tomllib.loads(text), "a page")


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_every_script_and_result_that_the_readme_names_is_there() -> None:
    modules = re.findall(r"python -m (benchmarks\.[a-z_.]+)", README)
    scripts = {f"{module.replace('.', '/')}.py" for module in modules}
    for place in scripts | set(re.findall(r"`(benchmarks/[a-z_/]+\.(?:py|json))`", README)):
        assert (ROOT / place).is_file(), place
    for script in scripts:
        assert (ROOT / "benchmarks" / "results" / f"{Path(script).stem}.json").is_file(), script
