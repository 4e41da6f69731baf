"""How near the pHashes of different pictures come to one another: what a radius of near duplicates has to keep apart.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.verdicts.strangers

The folders hold some pictures twice, toned or captioned, so the closest pairs are listed by label, source and distance.
"""

import argparse
import json
from collections import Counter
from itertools import combinations
from pathlib import Path

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.verdicts.derivatives import shrunk
from benchmarks.verdicts.labelled import folders_named, labelled
from filters.look import FINE_SIDE, phash_of

CLOSE_BITS = 10
"""Pairs up to this are listed."""
MADE_OVER = ("gray_", "derived_", "caption_")
"""How files begin that were made from another one of the folder."""
HASH_SIDE = 1000


def main() -> None:
    """Hash, compare each with each, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "strangers.json")
    options = parser.parse_args()
    hashes = []
    for photo in labelled(folders_named()):
        if not photo.path.name.startswith(MADE_OVER):
            picture = shrunk(photo.picture, HASH_SIDE)
            coarse, fine = (int(phash_of(picture, side), 16) for side in (8, FINE_SIDE))
            hashes.append((photo, coarse, fine))
    distances: Counter[int] = Counter()
    close = []
    for (one, coarse, fine), (other, other_coarse, other_fine) in combinations(hashes, 2):
        bits = (coarse ^ other_coarse).bit_count()
        distances[bits] += 1
        if bits <= CLOSE_BITS:
            labels = sorted((one.label, other.label))
            close.append((bits, (fine ^ other_fine).bit_count(), *labels, one.source == other.source))
    result = {
        "num_pictures": len(hashes),
        "pairs_by_bits": {str(bits): number for bits, number in sorted(distances.items()) if bits <= 2 * CLOSE_BITS},
        "close_pairs": [
            dict(zip(("bits", "fine_bits", "label", "other_label", "same_source"), pair, strict=True))
            for pair in sorted(close)
        ],
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
