"""Writes an evaluation of the five methods with tiny random weights, over photos of one's own; or an adapter alone."""

import argparse
from pathlib import Path

from facemakeup.evaluation.tiny.write import write_adapter_of, write_evaluation
from facemakeup.model.pretrained import without_bars

if __name__ == "__main__":
    without_bars()
    parser = argparse.ArgumentParser(prog="python -m facemakeup.evaluation.tiny", description=__doc__)
    parser.add_argument("folder", type=Path, help="Folder to write into.")
    parser.add_argument("manifest", type=Path, nargs="?", help="Manifest of photos; without it an adapter is written.")
    asked = parser.parse_args()
    if asked.manifest is not None:
        write_evaluation(asked.folder, asked.manifest)
    else:
        print(write_adapter_of(asked.folder))  # noqa: T201  which folder it is
