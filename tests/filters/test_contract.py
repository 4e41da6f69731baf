"""The contract of a filter: mypy holds every bundled module against it, and a recipe names what another one lacks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import filters
from curation.errors import RecipeError
from curation.recipe.filter_plan import filter_names
from curation.recipe.recipe import recipe_of
from filters import anime, colour, detail, drawn, face_quality, face_tone, faces, look, taught, text, text_map
from filters.base import CONTRACT, Evidence, FilterModule, Settings, StandIn

BUNDLED: tuple[FilterModule, ...] = (
    *(anime, colour, detail, drawn, face_quality, face_tone, faces, look, taught, text, text_map),
)
"""Typed: a module that breaks the contract does not pass mypy."""


def test_every_filter_of_the_package_is_held_against_the_contract() -> None:
    assert {module.__name__.rpartition(".")[2] for module in BUNDLED} == set(filter_names())
    for module in BUNDLED:
        for part, base in ((module.EVIDENCE, Evidence), (module.Measure, Settings), (module.Score, Settings)):
            assert base in part.__mro__, (module.__name__, part)
        assert dataclasses.is_dataclass(module.EVIDENCE)


def test_what_is_measured_gives_the_scores_that_are_named_in_their_order() -> None:
    (evidence,) = colour.build(colour.Measure(), "cpu").measure([np.full((64, 64, 3), 128, np.uint8)])
    assert isinstance(evidence, colour.EVIDENCE)
    assert tuple(colour.scores(evidence, colour.Score())) == colour.SCORES


def test_the_names_of_the_contract_are_those_of_its_protocol() -> None:
    declared = {name for name in vars(FilterModule) if not name.startswith("_")}
    assert declared == set(CONTRACT)


def test_what_can_stand_in_for_another_says_so_by_defining_how() -> None:
    assert isinstance(text_map, StandIn) and not isinstance(colour, StandIn)


def test_a_module_that_lacks_part_of_the_contract_is_named_with_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_filter.py").write_text("SCORES = ('size',)\nVERSION = 1\n")
    monkeypatch.setattr(filters, "__path__", [*filters.__path__, str(tmp_path)])
    stanza = {"name": "half_a_filter", "keep": {"size": {"min": 1}}}
    with pytest.raises(RecipeError, match=r"half_a_filter\.py does not define EVIDENCE, Measure, Score, scores"):
        recipe_of({"schema_version": 1, "name": "half", "filters": [stanza]}, "half.toml")
