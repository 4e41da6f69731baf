"""Runs in Data-Juicer's own environment: CPU seconds of its operators over a folder of pictures, as JSON."""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_juicer.ops.filter.image_aspect_ratio_filter import ImageAspectRatioFilter
from data_juicer.ops.filter.image_face_count_filter import ImageFaceCountFilter
from data_juicer.ops.filter.image_face_ratio_filter import ImageFaceRatioFilter
from data_juicer.ops.filter.image_shape_filter import ImageShapeFilter
from data_juicer.ops.filter.image_size_filter import ImageSizeFilter
from data_juicer.utils.constant import Fields
from loguru import logger


def main() -> None:
    """Let each part look at every picture, in this process."""
    import cv2

    cv2.setNumThreads(1)
    logger.remove()
    shape = (ImageFaceRatioFilter(), ImageAspectRatioFilter(), ImageShapeFilter(), ImageSizeFilter())
    parts = {"faces": (ImageFaceCountFilter(),), "shape": (ImageFaceCountFilter(), *shape)}
    paths = [str(path) for path in sorted(Path(sys.argv[1]).iterdir())]
    seconds, kept = {}, {}
    for part, operators in parts.items():
        keeps(paths[0], operators)
        started = time.process_time()
        kept[part] = [keeps(path, operators) for path in paths]
        seconds[part] = time.process_time() - started
    print(json.dumps({"version": version("py-data-juicer"), "seconds": seconds, "kept": kept}))


def keeps(path: str, operators: tuple[Any, ...]) -> bool:
    """Measure a picture by every operator, the decoded picture shared, and say whether all keep it."""
    sample: dict[str, Any] = {"images": [path], Fields.stats: {}, Fields.context: {}}
    verdicts = [keeps_by(sample, operator) for operator in operators]
    return all(verdicts)


def keeps_by(sample: dict[str, Any], operator: Any) -> bool:
    """Let one operator measure a sample and say whether it keeps it; some take batches, here of one."""
    if not operator.is_batched_op():
        return bool(operator.process_single(operator.compute_stats_single(sample, context=True)))
    batch = operator.compute_stats_batched({name: [value] for name, value in sample.items()}, context=True)
    return all(map(bool, operator.process_batched(batch)))


if __name__ == "__main__":
    main()
