"""Curates and packs a folder of tars from Python, and says what was kept, and why the rest was not.

    python examples/curate_a_folder.py TARS RUN [RECIPE]

TARS holds img2dataset-style tars, RUN gets the folders `curate` and `pack`; both may be addresses (`s3://...`).
Without RECIPE, the weights of `facecaptionhq-4m` must be here (`facecaptionhq doctor`).
"""

import sys

from curation import Spread, curate, load_recipe, location, pack, read_ledger


def main(tars: str, run: str, name: str = "facecaptionhq-4m") -> None:
    """Curate, pack, and print the account of both."""
    recipe, here = load_recipe(name), Spread(num_workers=0)  # in this process; Spread(8) takes 8 of Ray's workers
    folder = location(run) / "curate"
    curated = curate(location(tars), folder, recipe, here)
    print(f"{curated.num_seen} seen, {curated.num_kept} kept")
    for by, reasons in curated.rejected.items():
        print(*(f"{count} by {by}: {reason}" for reason, count in reasons.items()), sep="\n")
    for shard in curated.shards:
        for row in read_ledger(shard.file(folder, ".parquet"), ["key", "rejected_by", "reason"]).to_pylist():
            print(shard.shard, row["key"], row["reason"] or "kept")
    packed = pack(folder, location(run) / "pack", recipe, here)
    print(f"{packed.num_kept} packed in", *sorted(name for name in packed.file_names if name.endswith(".tar")))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:])
