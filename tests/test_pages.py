"""Pages name only what is there: every file, module and function in backticks, every link, every benchmark."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.places import PAGES, ROOT

FOLDERS = "backends|benchmarks|configs|curation|demo|docs|examples|facemakeup|filters|scripts|tests"
PACKAGES = "benchmarks|cli|configs|curation|demo|facemakeup|filters|tests"
INDEX = (ROOT / "benchmarks" / "README.md").read_text()


def quoted(page: Path) -> list[str]:
    """Return what stands in backticks on a page, blocks of code left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_module_that_a_page_names_is_there(page: Path) -> None:
    for words in quoted(page):
        if not re.search(r"[<{*]", words):
            for path in re.findall(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*[\w/]", words):
                assert (ROOT / path).exists(), path
        if re.fullmatch(r"\w+\.py", words):
            assert words in file_names(), words
        for name in re.findall(rf"(?<![\w/.\[-])(?:{PACKAGES})(?:\.\w+)+(?![\w/])", words):
            assert is_known(name) or name.endswith(".safetensors"), name
    for name in re.findall(r"python -m ([\w.]+)", page.read_text()):
        assert name.partition(".")[0] not in PACKAGES.split("|") or is_known(name), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_local_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_changelog_and_citation_are_of_the_version_that_is_built() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def _module(path: Path) -> str:
    """Return what `python -m` takes for a script."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__main__")


def test_the_index_of_benchmarks_names_every_script_once_and_only_results_that_are_there() -> None:
    rows = [line.split("|") for line in INDEX.splitlines() if line.startswith("|") and "`benchmarks." in line]
    paths = [path.relative_to(ROOT) for path in (ROOT / "benchmarks").rglob("*.py") if "__main__" in path.read_text()]
    own = [path for path in paths if path.parent.name != "inside"]  # those run in a peer's environment, called by it
    assert sorted(row[2].strip(" `") for row in rows) == sorted(_module(path) for path in own)
    results = {name for row in rows for name in re.findall(r"`(\w+\.json)`", row[4])}
    assert results == {path.name for path in (ROOT / "benchmarks" / "results").glob("*.json")}


def headings(page: Path) -> set[str]:
    """Return the headings of a page as links name them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


@cache
def file_names() -> frozenset[str]:
    """Return the names of all Python files."""
    return frozenset(path.name for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.py")) | {"cli.py"}


def is_known(name: str) -> bool:
    """Whether a dotted name is a file, a module, or something that a module defines."""
    place, parts = ROOT, name.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    if parts and (place / f"{parts[0]}.py").is_file():
        place = place / f"{parts.pop(0)}.py"
    if not parts:
        return True
    if (place / ".".join(parts)).is_file() or Path(ROOT, name).is_file():
        return True
    source = place if place.is_file() else place / "__init__.py"
    return source.is_file() and defines(ast.parse(source.read_text()), parts)


def defines(node: ast.AST, names: list[str]) -> bool:
    """Whether a module or class defines these names, each within the one before."""
    for child in ast.iter_child_nodes(node):
        targets = [child.target] if isinstance(child, ast.AnnAssign) else getattr(child, "targets", [])
        own = {getattr(child, "name", None), *(getattr(target, "id", None) for target in targets)}
        if names[0] in own:
            return len(names) == 1 or defines(child, names[1:])
    return False
