"""Runs in CleanVision's own environment: CPU seconds of its checks over a folder of pictures, as JSON."""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cleanvision import Imagelab

PARTS = {
    "grayscale": ("grayscale",),
    "properties": ("dark", "light", "odd_aspect_ratio", "low_information", "blurry", "grayscale", "odd_size"),
}


def main() -> None:
    """Let each part look at every picture, in this process."""
    paths = [str(path) for path in sorted(Path(sys.argv[1]).iterdir())]
    issues(paths[:1], PARTS["properties"])
    seconds, kept = {}, {}
    for part, names in PARTS.items():
        started = time.process_time()
        table = issues(paths, names)
        seconds[part] = time.process_time() - started
        kept[part] = [not any(table.loc[path, f"is_{name}_issue"] for name in names) for path in paths]
    print(json.dumps({"version": version("cleanvision"), "seconds": seconds, "kept": kept}))


def issues(paths: list[str], names: tuple[str, ...]) -> Any:
    """Return CleanVision's table of issues, a row per picture."""
    lab = Imagelab(filepaths=paths, verbose=False)
    lab.find_issues({name: {} for name in names}, n_jobs=1, verbose=False)
    return lab.issues


if __name__ == "__main__":
    main()
