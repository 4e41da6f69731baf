r"""Teaches the heads of `drawn` from labelled photos, and says what they do on sources that were left out.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.teach

Features are kept in `build/teach`, photo by photo, so that a run that was stopped goes on. Writes the heads
(`filters/drawn.json`; their new sha256 goes into `filters/weights.toml`), the figures, and each photo's logits
from heads that saw nothing of its source (`build/teach/out_of_fold.json`, by sha256; `benchmarks.verdicts.gold` takes
it, since the packaged heads know these photos). Same photos, libraries and seed: same heads.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, ROOT, commit, machine, surroundings
from benchmarks.verdicts import views as variations
from benchmarks.verdicts.drawn_figures import figures
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.learning import LESSONS, PEOPLE, POSITIVE, VARIED_WEIGHT
from curation.learning.heads import Views, cross_validated, digest_of, folds_of, out_of_fold, taught
from curation.recipe.recipe import load_recipe
from curation.storage.publish import digest
from filters import anime, drawn, faces
from filters.base import Filter, RgbImage
from filters.detectors.efficientnet_lite import NUM_FEATURES, NUM_INSIDE, EfficientNetLite
from filters.detectors.efficientnet_lite_export import EXPORTER_VERSION
from filters.heads import Training
from filters.loading import single_thread_torch
from filters.weights import find_weights

CACHE = Path("build/teach")
NETWORK, DETECTOR = "efficientnet_lite0", "yolov5n-0.5-face"
LABELS = (*PEOPLE, *POSITIVE.values())
NUM_VARIED, NUM_MASKED = 1, 1


class Gatherer:
    """Measures a photo's views: itself, a variation, and for a `single` with a face itself in a mask."""

    def __init__(self, seed: int) -> None:
        """Load the network, and the detectors that say where masks go and what the published step sees."""
        self._seed = seed
        self._network = EfficientNetLite(find_weights(NETWORK), device="cpu")
        plans = {plan.name: plan for plan in load_recipe("facecaptionhq-4m").filters}
        self._faces: Filter = faces.build(plans["faces"].measure, "cpu")  # type: ignore[arg-type]
        self._cascade: Filter = anime.build(plans["anime"].measure, "cpu")  # type: ignore[arg-type]
        self._anime_plan = plans["anime"]
        about: list[Any] = [
            seed,
            NUM_VARIED,
            NUM_MASKED,
            variations.VERSION,
            EXPORTER_VERSION,
            anime.VERSION,
            faces.VERSION,
            drawn.VERSION,
        ]
        about += [surroundings(NETWORK, DETECTOR), plans["anime"].measure.model_dump(mode="json")]
        self._folder = CACHE / digest(about)[:16]
        self._folder.mkdir(parents=True, exist_ok=True)

    def views(self, photo: Labelled) -> dict[str, Any]:
        """Return `features` (views, 1584), how many of the last views are `masks`, and the cascade's `line_to_nose`."""
        kept = self._folder / f"{photo.sha256}.npz"
        if not kept.is_file():
            values = self._measured(photo)
            draft = kept.with_suffix(".draft.npz")
            np.savez(draft, **values)
            draft.replace(kept)
        with np.load(kept, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def _measured(self, photo: Labelled) -> dict[str, Any]:
        image = photo.picture
        chance = np.random.default_rng([self._seed, int(photo.sha256[:16], 16)])
        seen = [image, *(variations.varied(image, chance) for _ in range(NUM_VARIED))]
        masks = self._masked(image, chance) if photo.label == "single" else []
        cascade = self._anime_plan.scores(self._cascade.measure([image])[0])["max_line_to_nose"]
        features = np.stack(self._network.features([*seen, *masks]))
        return {"features": features, "masks": len(masks), "line_to_nose": cascade}

    def _masked(self, image: RgbImage, chance: np.random.Generator) -> list[RgbImage]:
        found = self._faces.measure([image])[0].faces
        return [variations.masked(image, found[0], chance) for _ in range(NUM_MASKED)] if found else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Gather, teach, write heads and figures."""
    options = _options(arguments)
    single_thread_torch()
    photos = [photo for photo in labelled(folders_named()) if photo.label in LABELS]
    gatherer = Gatherer(options.seed)
    seen = []
    for number, photo in enumerate(photos, 1):
        seen.append(gatherer.views(photo))
        if number % 100 == 0:
            print(f"{number} of {len(photos)} photos", flush=True)
    views = _views(photos, seen, options.seed)
    pairs = {photo.sha256: photo.label for photo in photos}
    training = Training(manifest_sha256=digest_of(pairs), num_pictures=dict(sorted(Counter(pairs.values()).items())))
    everyone = np.ones(len(photos), dtype=bool)
    heads = taught(views, everyone, find_weights(NETWORK).sha256, training, LESSONS)
    options.heads.write_text(heads.written(), encoding="ascii")
    judges = list(out_of_fold(views, LESSONS))
    logits = cross_validated(judges, np.stack([one["features"][0] for one in seen]))
    by_sha256 = {photo.sha256: {name: logits[name][i] for name in POSITIVE} for i, photo in enumerate(photos)}
    (CACHE / "out_of_fold.json").write_text(json.dumps(by_sha256, indent=0), encoding="ascii")
    masks = np.stack([one["features"][-1] if one["masks"] else np.full(NUM_FEATURES, np.nan) for one in seen])
    masked = cross_validated(judges, masks.astype(np.float32))
    line_to_nose = np.array([float(one["line_to_nose"]) for one in seen])
    result = {
        "training": training.model_dump(mode="json") | {"num_sources": len({photo.source for photo in photos})},
        **figures(photos, views, logits, masked, line_to_nose, options.seed),
        "cpu_ms": _cpu_ms(photos),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def shares_of_views(num_masks: int) -> list[float]:
    """Return what each view of a photo counts for, in the order of a `Gatherer`."""
    return [1.0, *[VARIED_WEIGHT] * NUM_VARIED, *[1.0] * num_masks]


def _views(photos: Sequence[Labelled], seen: Sequence[dict[str, Any]], seed: int) -> Views:
    shares = [shares_of_views(int(one["masks"])) for one in seen]
    return Views(
        np.concatenate([one["features"] for one in seen]),
        np.repeat(np.arange(len(seen)), [len(one["features"]) for one in seen]),
        np.array([photo.label for photo in photos]),
        folds_of([photo.source for photo in photos], seed),
        np.concatenate(shares),
        NUM_INSIDE,
    )


def _cpu_ms(photos: Sequence[Labelled], num_pictures: int = 40) -> dict[str, float]:
    """Return CPU milliseconds a picture of the network on its own, and of the published step, on every n-th photo."""
    images = [photo.picture for photo in photos[:: max(1, len(photos) // num_pictures)]][:num_pictures]
    plans = {plan.name: plan for plan in load_recipe("facecaptionhq-4m").filters}
    network = EfficientNetLite(find_weights(NETWORK), device="cpu")
    cascade: Filter = anime.build(plans["anime"].measure, "cpu")  # type: ignore[arg-type]
    spent = {}
    for name, measure in (("drawn", network.features), ("anime", cascade.measure)):
        measure(images[:2])
        started = time.process_time()
        measure(images)
        spent[name] = round((time.process_time() - started) / len(images) * 1000, 2)
    return spent


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.teach", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heads", type=Path, default=ROOT / "filters" / "drawn.json")
    parser.add_argument("--out", type=Path, default=RESULTS / "drawn.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
