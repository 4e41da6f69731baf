"""Runs in NeMo Curator's own environment: reads a tar with its ImageReaderStage, as JSON."""

import json
import sys
import time
from importlib.metadata import version

from nemo_curator.stages.image.io.image_reader import ImageReaderStage
from nemo_curator.tasks import FileGroupTask


def main() -> None:
    """Read and decode every JPEG of a tar."""
    stage = ImageReaderStage(dali_batch_size=8, num_threads=1, verbose=False)
    started = time.process_time()
    batches = stage.process(FileGroupTask(dataset_name="tars", data=[sys.argv[1]]))
    seconds = time.process_time() - started
    num_pictures = sum(len(batch.data) for batch in batches)
    print(json.dumps({"version": version("nemo-curator"), "seconds": seconds, "num_pictures": num_pictures}))


if __name__ == "__main__":
    main()
