"""CRAFT at spots in eight bits beside float32: what a picture takes, and on which photos the screens say otherwise.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.eight_bits
        [--calibrate]

`--calibrate` writes `filters/detectors/craft_ranges.json` from the spots of photos of the first folder, 10 labelled
`text` and 30 `single`, and measures nothing. Else every photo of both folders that comes to CRAFT at spots is asked
both ways, where `text` stands alone (`benchmarks.verdicts.contradictions`), and those that come there in the whole
recipe, with logits of `drawn` by heads that saw nothing of a photo's source, are timed in turn. The first folder's
photos were in sight of the ranges, those of the second were not.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, origin
from benchmarks.verdicts.contradictions import FILTER, compared
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.teach import CACHE
from curation.recipe.recipe import Recipe, load_recipe, recipe_of
from filters import drawn, text
from filters.detectors import craft, craft_int8_export
from filters.detectors.craft import Floats
from filters.detectors.export import exported
from filters.weights import find_weights

RECIPE, SPOTS = "facecaptionhq-4m", "text_screen_3"
CALIBRATED_ON = {"text": 10, "single": 30}


def in_eight_bits() -> Recipe:
    """Return the recipe with CRAFT at spots in eight bits."""
    values = load_recipe(RECIPE).file.model_dump(mode="json", exclude_unset=True)
    (stanza,) = (stanza for stanza in values["filters"] if stanza["name"] == FILTER)
    stanza["screens"][2]["measure"]["dtype"] = "int8"
    return recipe_of(values, f"{RECIPE} with spots in int8")


def at_spots(photos: Sequence[Labelled], one: Judge, other: Judge) -> dict[str, Any]:
    """Return how alike both arithmetics are on the photos that CRAFT sees at spots, and where verdicts differ."""
    plans = [next(plan for plan in judge.recipe.filters if plan.name == FILTER) for judge in (one, other)]
    asked = [photo for photo in photos if one.has(photo, FILTER) and compared(one, photo, plans[0]).num_screens == 3]
    pairs = [(photo, compared(one, photo, plans[0]), compared(other, photo, plans[1])) for photo in asked]
    apart = [abs(_prominence(one, photo) - _prominence(other, photo)) for photo in asked]
    sides = [a for _, a, _ in pairs], [b for _, _, b in pairs]
    said = [(photo, a.screens or a.whole, b.screens or b.whole) for photo, a, b in pairs]
    return {
        "photos": len(asked),
        "of_the_second_folder": sum(_is_second(photo) for photo in asked),
        "verdicts_that_differ": [photo.path.name for photo, a, b in said if a != b],
        "left_open": [sum(seen.screens is None for seen in side) for side in sides],
        "open_in_one_alone": [photo.path.name for photo, a, b in pairs if (a.screens is None) != (b.screens is None)],
        "against_the_whole": [sum(seen.is_against for seen in side) for side in sides],
        "prominence_apart": {"median": round(float(np.median(apart)), 4), "greatest": round(float(max(apart)), 4)},
    }


def timed(photos: Sequence[Labelled], one: Judge, other: Judge) -> dict[str, Any]:
    """Return what CRAFT at spots takes where the whole recipe comes to it, in turn, and per picture of all."""
    logits = json.loads((CACHE / "out_of_fold.json").read_text(encoding="ascii"))
    second = [photo for photo in photos if _is_second(photo)]
    reached = []
    for photo in second:
        left_out = logits.get(photo.sha256)
        given = {} if left_out is None else {"drawn": drawn.DrawnEvidence(*(left_out[head] for head in drawn.HEADS))}
        reached += [photo] if one.verdict(photo, given)[1][SPOTS] is not None else []
    plans = [next(plan for plan in judge.recipe.measurers if plan.name == SPOTS) for judge in (one, other)]
    built = [plan.module.build(plan.measure, "cpu") for plan in plans]
    spent: list[list[float]] = [[], []]
    map_ms = []
    for number, photo in enumerate(reached):
        picture = photo.picture
        started = time.process_time()
        built[0]._spots([picture])  # type: ignore[attr-defined]  # as the screen before does, so that both have the map
        map_ms.append(1000 * (time.process_time() - started))
        for side in (0, 1) if number % 2 else (1, 0):
            started = time.process_time()
            built[side].measure([picture])
            spent[side].append(1000 * (time.process_time() - started))
    means = {name: float(np.mean(each)) for name, each in zip(("float32", "int8"), spent, strict=True)}
    return {
        "photos_of_the_second_folder": len(second),
        "at_spots": len(reached),
        "cpu_ms_of_a_map_that_is_not_shared": round(float(np.mean(map_ms)), 1),
        "cpu_ms_at_spots": {name: round(mean, 1) for name, mean in means.items()},
        "cpu_ms_per_picture": {name: round(mean * len(reached) / len(second), 2) for name, mean in means.items()},
    }


def _prominence(judge: Judge, photo: Labelled) -> float:
    plan = next(plan for plan in judge.recipe.filters if plan.name == FILTER)
    screen = plan.screens[2]
    known = {"faces": judge.evidence(photo, "faces"), SPOTS: judge.evidence(photo, SPOTS)}
    return screen.scores(screen.proofs, known)["text_prominence"]


def _is_second(photo: Labelled) -> bool:
    return folders_named(["FACECAPTIONHQ_GOLD2"])[0] in photo.path.parents


class _Windows:
    """What CRAFT sees at spots of photos, one after the other, as onnxruntime's calibration asks for it."""

    def __init__(self, photos: Sequence[Labelled], name: str) -> None:
        self._windows, self._name = _windows(photos), name

    def get_next(self) -> dict[str, Floats] | None:
        """Return the next window, None after the last."""
        window = next(self._windows, None)
        return None if window is None else {self._name: window[None]}


def _windows(photos: Sequence[Labelled]) -> Iterator[Floats]:
    plan = next(plan for plan in load_recipe(RECIPE).measurers if plan.name == SPOTS)
    assert isinstance(plan.measure, text.Measure) and plan.measure.spots is not None
    finder = text._finder(plan.measure, "cpu")
    for photo in photos:
        spots = text.Text(None, finder, 0)._spots([photo.picture])  # type: ignore[arg-type]  # CRAFT is not asked
        canvas, scale = craft.on_canvas(photo.picture, plan.measure.canvas_side, plan.measure.mag_ratio)
        sides = canvas.shape[1], canvas.shape[0]
        for window in craft.windows(spots[0] if spots else [], scale, plan.measure.spots.margin_px, *sides):
            yield craft._network_input(craft._cut(canvas, window))


def calibrate(photos: Sequence[Labelled]) -> None:
    """Write the ranges of CRAFT's layers, by their names."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static

    source = exported(find_weights("craft_mlt_25k"), "craft")
    chosen = [photo for label, num in CALIBRATED_ON.items() for photo in [p for p in photos if p.label == label][:num]]
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "ranges.json"
        quantize_static(
            source, Path(folder) / "unused.onnx", _Windows(chosen, "pixels_NCHW"), quant_format=QuantFormat.QDQ,
            calibrate_method=CalibrationMethod.MinMax, calibration_cache_path=fresh,
        )  # fmt: skip
        ranges = json.loads(fresh.read_text(encoding="utf-8"))
    craft_int8_export.RANGES.write_text(json.dumps(ranges, indent=None, sort_keys=True) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Calibrate, or compare and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.eight_bits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "eight_bits.json")
    options = parser.parse_args(arguments)
    if options.calibrate:
        calibrate(labelled(folders_named(["FACECAPTIONHQ_GOLD"])))
        return 0
    photos = labelled(folders_named())
    one, other = Judge(load_recipe(RECIPE)), Judge(in_eight_bits())
    result = {"at_spots": at_spots(photos, one, other), "timed": timed(photos, one, other), **origin(RECIPE)}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
