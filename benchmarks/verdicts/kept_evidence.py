"""Verdicts on labelled photos from evidence that is measured once, photo by photo, and kept for the next run.

What is kept is named by the photo's sha256 and the filter's measurement key, so a filter that changes is measured anew
and no other is. Nothing is measured that no verdict waits for.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.verdicts.labelled import Labelled
from curation.measure.arrow import from_struct, to_struct
from curation.measure.filter_set import measurement_keys, weights_of
from curation.recipe.filter_plan import FilterPlan
from curation.recipe.judge import NotYet, Verdict, judge
from curation.recipe.recipe import Recipe
from filters.base import Filter, RgbImage
from filters.loading import single_thread_torch

FOLDER = Path("build/evidence")


class Judge:
    """One recipe over photos; evidence of some filters may be given instead of measured."""

    def __init__(self, recipe: Recipe, folder: Path = FOLDER) -> None:
        """Name what its filters measure; models are built when the first photo needs them."""
        single_thread_torch()
        self.recipe = recipe
        self._plans = {plan.name: plan for plan in recipe.measurers}
        self._keys = measurement_keys(recipe, weights_of(recipe))
        self._folder = folder
        self._built: dict[str, Filter] = {}
        self._last: tuple[str, RgbImage] | None = None

    def verdict(self, photo: Labelled, given: Mapping[str, Any]) -> tuple[Verdict, dict[str, Any]]:
        """Return what becomes of a photo, and the evidence that it took; `given` is evidence by filter's name."""
        known = {name: given.get(name) for name in self._plans}
        while isinstance(verdict := judge(known, self.recipe.criteria), NotYet):
            name = next(name for name in self.recipe.order if name in verdict.filters)
            known[name] = self.evidence(photo, name)
        return verdict, known

    def scores(self, photo: Labelled, known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Return every criterion's own score and keep range, and whether it fails, or a screen's proof says so."""
        whole = {name: self.evidence(photo, name) if known[name] is None else known[name] for name in self._plans}
        return {
            f"{criterion.filter}.{criterion.score}": {
                "score": float(f"{criterion.bounds(whole).low:.4g}"),
                "keep": criterion.keep.model_dump(exclude_none=True),
                "fails": settled.failure is not None,
                "proved_by": settled.by,
            }
            for criterion in self.recipe.criteria
            for settled in (criterion.settle(whole),)
        }

    def evidence(self, photo: Labelled, name: str) -> Any:
        """Return what one filter sees in a photo."""
        plan = self._plans[name]
        file = self._file(photo, name)
        if not file.is_file():
            values = to_struct(self._filter(plan).measure([self._picture(photo)])[0])
            file.parent.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(f".{os.getpid()}.draft")
            draft.write_text(json.dumps(values), encoding="ascii")
            draft.replace(file)
        return from_struct(plan.module.EVIDENCE, json.loads(file.read_text(encoding="ascii")))

    def has(self, photo: Labelled, name: str) -> bool:
        """Return whether it is kept what one filter sees in a photo."""
        return self._file(photo, name).is_file()

    def _file(self, photo: Labelled, name: str) -> Path:
        return self._folder / self._keys[name] / f"{photo.sha256}.json"

    def _filter(self, plan: FilterPlan) -> Filter:
        if plan.name not in self._built:
            self._built[plan.name] = plan.module.build(plan.measure, "cpu")
        return self._built[plan.name]

    def _picture(self, photo: Labelled) -> RgbImage:
        if self._last is None or self._last[0] != photo.sha256:
            self._last = photo.sha256, photo.picture
        return self._last[1]
