"""Says what a recipe keeps of both folders of labelled photos, by kind and by tag, and what `drawn` changes.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.verdicts.wider

The heads of `drawn` were taught on these very photos. So its evidence is replaced by logits of heads that saw nothing
of the photo's source (`build/teach/out_of_fold.json`, which `benchmarks.verdicts.teach` writes); its limits, and
thresholds of other filters, were chosen with these photos in sight. The photos are curated through the command line
with `drawn` measured and rejecting nobody; verdicts are then judged again from the ledgers.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts.drawn_figures import KINDS, SLICES
from benchmarks.verdicts.gold import verdict_of
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.teach import CACHE
from curation.dataset.ledger import read_ledger
from curation.dataset.tar import write_tar
from curation.recipe.judge import Verdict
from curation.recipe.recipe import Recipe, load_recipe
from filters import drawn

NUM_SHARDS = 8
KINDS_OF = {"anime": KINDS["drawn"], "noface": KINDS["nonhuman"]}
LENIENT = "{ max = 1000000.0 }"


def main(arguments: Sequence[str] | None = None) -> int:
    """Curate, judge with and without `drawn`, write figures."""
    options = _options(arguments)
    photos = {photo.sha256: photo for photo in labelled(folders_named())}
    left_out = json.loads((CACHE / "out_of_fold.json").read_text(encoding="ascii"))
    recipe = load_recipe(options.recipe)
    with tempfile.TemporaryDirectory(prefix="wider-") as folder:
        rows = [_left_out(row, left_out) for row in _curated(list(photos.values()), Path(folder), recipe)]
    without = replace(recipe, filters=tuple(plan for plan in recipe.filters if plan.name != "drawn"))
    result = {
        "num_photos": len(photos),
        "recipes": {
            name: figures([(photos[row["key"]], verdict_of(row, judged)) for row in rows])
            for name, judged in ((recipe.name, recipe), (f"{recipe.name} without drawn", without))
        },
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def figures(verdicts: Sequence[tuple[Labelled, Verdict]]) -> dict[str, Any]:
    """Return what became of each label, how many stay of each kind and tag, and every wrong verdict."""
    by_label: dict[str, Counter[str]] = {}
    for photo, verdict in verdicts:
        by_label.setdefault(photo.label, Counter())[verdict.rejected_by or "kept"] += 1
    kinds = {kind: label for label, known in KINDS_OF.items() for kind in known}
    return {
        "by_label": {label: dict(sorted(counts.items())) for label, counts in sorted(by_label.items())},
        "kept_by_label": {label: _kept(verdicts, label) for label in sorted(by_label)},
        "kept_by_kind": {kind: _kept(verdicts, label, kind) for kind, label in kinds.items()},
        "single_kept_by_tag": {tag: _kept(verdicts, "single", tag) for tag in SLICES},
        "wrong": sorted(
            f"{photo.path.name}: {photo.label} {' '.join(photo.tags)}: {verdict.rejected_by or 'kept'} "
            f"{verdict.reason or ''}".rstrip()
            for photo, verdict in verdicts
            if (photo.label == "single") != verdict.kept
        ),
    }


def _kept(verdicts: Sequence[tuple[Labelled, Verdict]], label: str, tag: str | None = None) -> dict[str, Any]:
    kept = [verdict.kept for photo, verdict in verdicts if photo.label == label and (tag is None or tag in photo.tags)]
    return {"hits": sum(kept), "of": len(kept), "wilson_95": wilson(sum(kept), len(kept))}


def _left_out(row: Mapping[str, Any], left_out: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    logits = left_out.get(row["key"])
    if logits is None or row["drawn_evidence"] is None:
        return dict(row)
    return {**row, "drawn_evidence": {f"{name}_logit": logits[name] for name in drawn.HEADS}}


def _curated(photos: Sequence[Labelled], folder: Path, recipe: Recipe) -> list[dict[str, Any]]:
    """Return every ledger row; the keys are the photos' sha256."""
    source, target, lenient = folder / "in", folder / "curate", folder / "recipe.toml"
    source.mkdir()
    for shard in range(NUM_SHARDS):
        members = [member for photo in photos[shard::NUM_SHARDS] for member in _members(photo)]
        write_tar(source / f"{shard:05d}.tar", members)
    text = Path(recipe.path).read_text(encoding="utf-8")
    lenient.write_text(re.sub(r"(keep\.(?:drawn|nonhuman)_logit) = .*", rf"\1 = {LENIENT}", text), encoding="utf-8")
    program = str(Path(sys.executable).with_name("facecaptionhq"))
    command = [program, "curate", str(source), str(target), "--recipe", str(lenient), "--workers", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [row for path in sorted(target.glob("*.parquet")) for row in read_ledger(path).to_pylist()]


def _members(photo: Labelled) -> list[tuple[str, bytes]]:
    metadata = json.dumps({"url": f"https://gold.example/{photo.sha256}"}).encode()
    return [(f"{photo.sha256}.img", photo.path.read_bytes()), (f"{photo.sha256}.json", metadata)]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.wider", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--out", type=Path, default=RESULTS / "wider.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
