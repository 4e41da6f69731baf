"""Recipes for a benchmark, written on the command line: one of a file or of the package, with changes.

    facecaptionhq-4m
    facecaptionhq-4m;text.measure.canvas_side=2560;curate.order=["colour","faces","anime","text"]
    facecaptionhq-4m;-screens

A change names a filter or a table of the recipe, then its keys, and a TOML value; `-screens` takes all screens away,
`-drawn` the filter of that name, and `bfloat16` runs text and its screens on openvino in that arithmetic.
"""

import tomllib
from collections.abc import Mapping
from typing import Any

from curation.errors import UsageError
from curation.recipe.recipe import Recipe, load_recipe, recipe_of

NO_SCREENS = "-screens"
BFLOAT16 = "bfloat16"
SAME_EVIDENCE = (
    NO_SCREENS,
    "text.measure.canvas_side=2560",
    "anime.measure.view_side=65535",
    "anime.measure.scale_factor=1.1",
    "anime.measure.equalise=true",
    "anime.measure.min_neighbours=5",
    'faces.measure.weights="yolov5n-face"',
    "faces.measure.side=640",
    'curate.order=["colour","faces","drawn","anime","text"]',
)
"""What `benchmarks.speed.obvious` measures, measured by our engine: the same models at the same sizes.

Order and runtimes differ; so do the resize before the face network (`filters.loading.shrink`), and two statistics of
colour that the engine takes on top.
"""


def variant(text: str) -> Recipe:
    """Return the recipe that a text of the form above describes.

    Raises:
        UsageError: a change has another form.
        RecipeError: the recipe, or what becomes of it, does not hold.
    """
    name, *changes = text.split(";")
    recipe = load_recipe(name)
    if not changes:
        return recipe
    values = recipe.file.model_dump(mode="json", exclude_unset=True)
    for change in changes:
        values = _after(values, change)
    return recipe_of(values, f"{recipe.path} with {', '.join(changes)}")


def plain(recipe: Recipe) -> Recipe:
    """Return the recipe without its screens."""
    return recipe_of(_without_screens(recipe.file.model_dump(mode="json", exclude_unset=True)), recipe.path)


def _without_screens(values: Mapping[str, Any]) -> dict[str, Any]:
    stanzas = [{key: value for key, value in stanza.items() if key != "screens"} for stanza in values["filters"]]
    names = [stanza["name"] for stanza in stanzas]
    curate = dict(values.get("curate", {}))
    if "order" in curate:
        curate["order"] = [name for name in curate["order"] if name in names]
    return {**values, "curate": curate, "filters": stanzas}


def _without_filter(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    stanzas = [stanza for stanza in values["filters"] if stanza["name"] != name]
    if len(stanzas) == len(values["filters"]):
        raise UsageError(f"-{name}: the recipe has no filter {name!r} to take away")
    curate = dict(values.get("curate", {}))
    if "order" in curate:
        curate["order"] = [step for step in curate["order"] if step.partition("_screen")[0] != name]
    return {**values, "curate": curate, "filters": stanzas}


def _in_bfloat16(values: Mapping[str, Any]) -> dict[str, Any]:
    def on_openvino(table: Mapping[str, Any]) -> dict[str, Any]:
        return {**table, "measure": {**table.get("measure", {}), "runtime": "openvino", "dtype": "bfloat16"}}

    stanzas = [
        {**on_openvino(stanza), **({"screens": [*map(on_openvino, stanza["screens"])]} if "screens" in stanza else {})}
        if stanza["name"] == "text"
        else stanza
        for stanza in values["filters"]
    ]
    return {**values, "filters": stanzas}


def _after(values: Mapping[str, Any], change: str) -> dict[str, Any]:
    if change in _CHANGES:
        return _CHANGES[change](values)
    return _without_filter(values, change[1:]) if change.startswith("-") else _changed(values, change)


def _changed(values: Mapping[str, Any], change: str) -> dict[str, Any]:
    place, is_there, value = change.partition("=")
    first, *keys = place.strip().split(".")
    if not is_there or not keys:
        raise UsageError(f"{change!r}: a change looks like text.measure.canvas_side=640 or curate.order=[...]")
    try:
        new = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{change!r}: {value!r} is no TOML value: {error}") from error
    stanzas = [dict(stanza) for stanza in values["filters"]]
    named = next((stanza for stanza in stanzas if stanza["name"] == first), None)
    if named is None:
        return {**values, first: _set(values.get(first, {}), keys, new)}
    named.update(_set(named, keys, new))
    return {**values, "filters": stanzas}


def _set(table: Mapping[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    first, *rest = keys
    return {**table, first: _set(table.get(first, {}), rest, value) if rest else value}


_CHANGES = {NO_SCREENS: _without_screens, BFLOAT16: _in_bfloat16}
