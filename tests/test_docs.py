import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from curation.recipe.filter_plan import filter_names
from curation.recipe.recipe import bundled_recipes
from tests.places import ROOT

README = (ROOT / "README.md").read_text()


def test_the_readme_names_every_command_filter_and_recipe() -> None:
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    for name in [*commands, *(f"models {name}" for name in ("list", "pull", "add", "verify"))]:
        assert f"facecaptionhq {name}" in README, name
    for name in (*filter_names(), *bundled_recipes()):
        assert f"`{name}`" in README or f"--recipe {name}" in README, name


@pytest.mark.parametrize("line", sorted(set(re.findall(r"^facecaptionhq .*$", README, re.MULTILINE))))
def test_every_command_line_of_the_readme_is_one_that_the_program_takes(line: str) -> None:
    words = [word for word in line.split()[1:] if word != "\\"]
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    options = {word for word in words if word.startswith("--")}
    shown = CliRunner().invoke(app, [words[0], "--help"], terminal_width=200).output
    assert all(option in shown for option in options)


def test_every_local_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "backends").rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


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
