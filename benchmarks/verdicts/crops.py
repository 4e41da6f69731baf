"""Shows what `anime` takes for drawn among a corpus of crops, with the recipe's thresholds and with those before them.

    FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.crops --corpus FOLDER

The corpus is one that `benchmarks.pictures.corpus` wrote. Crops of one photo are much alike, so each picture that is
taken for drawn is named with its source. `nearest` is that of `benchmarks.speed.sizes`, over all crops.
"""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pictures.corpus import MANIFEST
from benchmarks.pictures.photos import photos_of, read
from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts.looks import Look
from benchmarks.verdicts.margins import LINE_TO_NOSE, nearest_anime
from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from filters import anime


@dataclass(frozen=True)
class Rule:
    """How the cascade scans, and how many windows make a hit."""

    scale_factor: float
    min_neighbours: int
    min_neighbours_small: int

    @property
    def thresholds(self) -> Mapping[str, int]:
        """As `filters.anime.Score` takes them."""
        return {"min_neighbours": self.min_neighbours, "min_neighbours_small": self.min_neighbours_small}


VIEW_SIDE = 320
RULES = {
    "before": Rule(1.1, 8, 8),
    "1.1, two thresholds": Rule(1.1, 13, 5),
    "recipe": Rule(1.12, 13, 5),
    "1.15, two thresholds": Rule(1.15, 13, 5),
    "1.2, two thresholds": Rule(1.2, 8, 4),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan every crop with every factor once, print and write what each rule makes of it."""
    options = _options(arguments)
    looks_by_factor = scanned(options.corpus)
    with (options.corpus / MANIFEST).open(newline="", encoding="utf-8") as file:
        sources = {row["key"]: row["source"] for row in csv.DictReader(file)}
    rules = {name: figures(rule, looks_by_factor[rule.scale_factor], sources) for name, rule in RULES.items()}
    told = {name: _drawings(rule, looks_by_factor[rule.scale_factor]) for name, rule in RULES.items()}
    for name, keys in told.items():
        rules[name]["drawings_unlike_before"] = sorted(keys ^ told["before"])
    result = {"num_crops": len(sources), "rules": rules, "machine": machine(), "commit": commit()}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(rules, indent=1))
    return 0


def scanned(corpus: Path) -> dict[float, list[Look]]:
    """Return scale factor -> what the cascade finds in every crop; hits of three windows and more."""
    factors = sorted({rule.scale_factor for rule in RULES.values()})
    detectors = {
        factor: anime.build(anime.Measure(view_side=VIEW_SIDE, scale_factor=factor, min_neighbours=2), "cpu")
        for factor in factors
    }
    looks: dict[float, list[Look]] = {factor: [] for factor in factors}
    for photo, image_bytes in read(photos_of(str(corpus))):
        image = decode(image_bytes, DecodeLimits()).rgb
        for factor, detector in detectors.items():
            looks[factor].append(Look(photo.key, photo.label, "", detector.measure([image])[0], 0.0))
    return looks


def looking_drawn(rule: Rule, looks: Sequence[Look]) -> list[Look]:
    """Return the crops that a rule takes for drawn."""
    score = anime.Score.model_validate(rule.thresholds)
    return [look for look in looks if anime.scores(look.evidence, score)["max_line_to_nose"] > LINE_TO_NOSE]


def figures(rule: Rule, looks: Sequence[Look], sources: Mapping[str, str]) -> dict[str, Any]:
    """Return how many crops of each label look drawn to a rule, and which of those that are not."""
    score = anime.Score.model_validate(rule.thresholds)
    drawn = looking_drawn(rule, looks)
    num_drawn, num_crops = Counter(look.label for look in drawn), Counter(look.label for look in looks)
    return {
        "scale_factor": rule.scale_factor,
        **rule.thresholds,
        "drawn": {
            label: [num_drawn[label], count, wilson(num_drawn[label], count)]
            for label, count in sorted(num_crops.items())
        },
        "drawings": _by_source(looks, drawn, sources),
        "drawn_but_photos": [
            {"key": look.file, "label": look.label, "source": sources[look.file], "hits": _hits(look, score)}
            for look in drawn
            if look.label != "anime"
        ],
        "nearest": nearest_anime(looks, rule.thresholds),
    }


def _drawings(rule: Rule, looks: Sequence[Look]) -> set[str]:
    return {look.file for look in looking_drawn(rule, looks) if look.label == "anime"}


def _by_source(looks: Sequence[Look], drawn: Sequence[Look], sources: Mapping[str, str]) -> dict[str, list[int]]:
    """Return for each drawing how many of its crops are told, and of how many."""
    told, crops = (Counter(sources[look.file] for look in group if look.label == "anime") for group in (drawn, looks))
    return {source: [told[source], count] for source, count in sorted(crops.items())}


def _hits(look: Look, score: anime.Score) -> list[dict[str, float]]:
    """Return the windows, the side as a share of the picture's longer side, and the ratio of each hit that counts."""
    longer = max(look.evidence.width, look.evidence.height)
    return [
        {
            "num_neighbours": hit.num_neighbours,
            "side_fraction": round((hit.x2 - hit.x1) / longer, 3),
            "line_to_nose": round(hit.line_to_nose, 2),
        }
        for hit in look.evidence.hits
        if anime.scores(anime.AnimeEvidence(1, 1, (hit,)), score)["max_line_to_nose"] > LINE_TO_NOSE
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.crops", description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder that benchmarks.pictures.corpus wrote")
    parser.add_argument("--out", type=Path, default=RESULTS / "crops.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
