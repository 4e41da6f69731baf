"""Laws of the house that no list in a file should have to be kept for."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import grimp

from curation.recipe.filter_plan import filter_names
from tests.places import ROOT

PACKAGES = ("curation", "filters", "facemakeup")
SOURCES = [ROOT / "cli.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]
OF_THE_CONTRACT = {"Measure", "Score"}
"""Classes that every filter defines (`filters.base.FilterModule`)."""
MAX_FUNCTION_LINES = 40


class Definition(NamedTuple):
    """A class or a function, without the tree that it was read from."""

    name: str
    is_class: bool
    first: int
    last: int


@cache
def definitions(path: Path) -> tuple[Definition, ...]:
    return tuple(defined_in(ast.parse(path.read_text())))


def defined_in(node: ast.AST) -> Iterator[Definition]:
    """Look into statements alone: expressions, of which there are ten times as many, define neither."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            last = child.end_lineno or child.lineno
            yield Definition(child.name, isinstance(child, ast.ClassDef), child.lineno, last)
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from defined_in(child)


def test_filters_do_not_know_one_another() -> None:
    graph = grimp.build_graph("filters")
    modules = [f"filters.{name}" for name in filter_names()]
    assert {"filters.colour", "filters.text", "filters.faces"} <= set(modules)
    chains = [graph.find_shortest_chain(one, other) for one, other in permutations(modules, 2)]
    assert not any(chains), [chain for chain in chains if chain]


def test_a_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for defined in definitions(path):
            if defined.is_class and not defined.name.startswith("_"):
                places[defined.name].append(str(path.relative_to(ROOT)))
    doubled = {name: paths for name, paths in places.items() if len(paths) > 1 and name not in OF_THE_CONTRACT}
    assert not doubled


def test_a_function_of_more_than_forty_lines_says_why_on_its_first_line() -> None:
    silent = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for defined in definitions(path):
            num_lines = defined.last - defined.first + 1
            if not defined.is_class and num_lines > MAX_FUNCTION_LINES and "#" not in lines[defined.first - 1]:
                silent.append(f"{path.relative_to(ROOT)}:{defined.first} {defined.name}: {num_lines} lines")
    assert not silent
