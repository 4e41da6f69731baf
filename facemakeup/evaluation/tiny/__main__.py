"""Writes an evaluation of the five methods with tiny random weights, over photos of one's own; or an adapter alone."""

import sys
from pathlib import Path

from facemakeup.evaluation.tiny.write import write_adapter_of, write_evaluation
from facemakeup.model.pretrained import without_bars

if __name__ == "__main__":
    without_bars()
    match [Path(word) for word in sys.argv[1:]]:
        case [folder, manifest]:
            write_evaluation(folder, manifest)
        case [folder]:
            print(write_adapter_of(folder))  # noqa: T201  which folder it is
        case _:
            sys.exit("python -m facemakeup.evaluation.tiny FOLDER [MANIFEST]")
