"""Writes an evaluation of the five methods with tiny random weights, over photos of one's own."""

import sys
from pathlib import Path

from facemakeup.evaluation.tiny.write import write_evaluation

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("python -m facemakeup.evaluation.tiny FOLDER MANIFEST")
    write_evaluation(Path(sys.argv[1]), Path(sys.argv[2]))
