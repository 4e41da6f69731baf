"""Laws of the house that no list in a file should have to be kept for."""

from itertools import permutations

import grimp

from curation.recipe.filter_plan import filter_names


def test_filters_do_not_know_one_another() -> None:
    graph = grimp.build_graph("filters")
    modules = [f"filters.{name}" for name in filter_names()]
    assert {"filters.colour", "filters.text", "filters.faces"} <= set(modules)
    chains = [graph.find_shortest_chain(one, other) for one, other in permutations(modules, 2)]
    assert not any(chains), [chain for chain in chains if chain]
