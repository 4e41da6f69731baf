"""Laws of the house that no list in a file should have to be kept for."""

import ast
from collections import defaultdict
from functools import cache
from itertools import permutations
from pathlib import Path

import grimp

from curation.recipe.filter_plan import filter_names
from tests.places import ROOT

PACKAGES = ("curation", "filters", "facemakeup")
SOURCES = [ROOT / "cli.py", *(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))]
OF_THE_CONTRACT = {"Measure", "Score"}
"""Classes that every filter defines (`filters.base.FilterModule`)."""
MAX_FUNCTION_LINES = 40


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def test_filters_do_not_know_one_another() -> None:
    graph = grimp.build_graph("filters")
    modules = [f"filters.{name}" for name in filter_names()]
    assert {"filters.colour", "filters.text", "filters.faces"} <= set(modules)
    chains = [graph.find_shortest_chain(one, other) for one, other in permutations(modules, 2)]
    assert not any(chains), [chain for chain in chains if chain]


def test_a_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    doubled = {name: paths for name, paths in places.items() if len(paths) > 1 and name not in OF_THE_CONTRACT}
    assert not doubled


def test_a_function_of_more_than_forty_lines_says_why_on_its_first_line() -> None:
    silent = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for node in nodes(path):
            if not isinstance(node, ast.FunctionDef) or node.end_lineno is None:
                continue
            num_lines = node.end_lineno - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES and "#" not in lines[node.lineno - 1]:
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {num_lines} lines")
    assert not silent
