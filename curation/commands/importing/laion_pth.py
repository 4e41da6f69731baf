"""LAION-Face ships pickles: each is read once, in a child process that may build numbers only, and becomes parquet.

`laion_face_ids.pth` is a list of 32 collections of SAMPLE_ID, one per part of LAION-400M; `sample2detect_{n}.pth` maps
a SAMPLE_ID to its faces, each (box, landmarks, score).
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import SafetyError, UsageError
from curation.storage.publish import publish, sha256_of

REFUSED, OTHER_SHAPE = 3, 4
"""Exit codes of the child."""
MIN_SCORE = 0.5
"""A detection of a lower score does not count as a face."""
MAX_MEMORY_BYTES = 48 << 30
MAX_CPU_S = 3600
NUM_BATCH_ROWS = 100_000
BOX_SIDES = 4

IDS = pa.schema([("part", pa.int32()), ("SAMPLE_ID", pa.int64())])
DETECTIONS = pa.schema(
    [
        ("SAMPLE_ID", pa.int64()),
        ("num_faces", pa.int32()),
        ("face_side", pa.float64()),
        ("face_area", pa.float64()),
        ("boxes", pa.list_(pa.list_(pa.float32()))),
        ("scores", pa.list_(pa.float32())),
    ]
)
"""`num_faces` counts scores of `MIN_SCORE` and more; `face_side` and `face_area` are the largest one's, in pixels."""


def convert_pth(source: Path, target: Path) -> None:
    """Write the content of a `.pth` file of LAION-Face as parquet; nothing of it ever runs as code.

    Raises:
        UsageError: it is missing, or holds neither ids nor detections.
        SafetyError: it holds anything but plain data and tensors, and was not loaded.
    """
    if not source.is_file():
        raise UsageError(f"{source}: no such file")
    publish(target, lambda temp: _in_child(source, temp))


def _in_child(source: Path, target: Path) -> None:
    command = [sys.executable, "-m", "curation.commands.importing.laion_pth", str(source.resolve()), str(target)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {"PATH": os.defpath, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    talk = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode == OTHER_SHAPE:
        raise UsageError(f"{source}: neither laion_face_ids.pth nor sample2detect_N.pth: {talk}")
    if done.returncode < 0:
        raise UsageError(
            f"{source}: reading it ended by {signal.Signals(-done.returncode).name}: it takes more memory than there "
            f"is, or more than {MAX_CPU_S} s; nothing was written"
        )
    if done.returncode != 0:
        raise SafetyError(f"{source}: refused, since it is no plain data: {talk}")


def main(arguments: Sequence[str]) -> int:
    """Convert one file; run as a process of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    source, target = arguments
    try:
        content = _load(source)
    except Exception as error:  # noqa: BLE001  whatever torch raises on a stranger's file means: not loaded
        sys.stderr.write(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n")
        return REFUSED
    try:
        schema, rows = _rows_of(content)
        with pq.ParquetWriter(target, schema.with_metadata({"sha256": sha256_of(Path(source))})) as writer:
            for batch in _batched(rows):
                writer.write_table(pa.Table.from_pylist(batch, schema))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return OTHER_SHAPE
    return 0


def _load(source: str) -> Any:
    import numpy as np
    import torch

    plain: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(code)) for code in "bBhHiIlLqQefd?")]
    with contextlib.suppress(AttributeError):
        plain += [np._core.multiarray._reconstruct, np._core.multiarray.scalar]  # type: ignore[attr-defined, unused-ignore]
    with torch.serialization.safe_globals(plain):
        return torch.load(source, map_location="cpu", weights_only=True)


def _rows_of(content: Any) -> tuple[pa.Schema, Iterator[dict[str, Any]]]:
    if isinstance(content, Mapping):
        return DETECTIONS, (_detection(int(key), faces) for key, faces in content.items())
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        return IDS, (
            {"part": part, "SAMPLE_ID": int(sample_id)} for part, ids in enumerate(content) for sample_id in _plain(ids)
        )
    raise TypeError(f"holds {type(content).__name__}; a list of ids or a mapping of detections is needed")


def _plain(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


def _detection(sample_id: int, faces: Any) -> dict[str, Any]:
    boxes = [[float(side) for side in _plain(face[0])] for face in faces]
    if any(len(box) != BOX_SIDES for box in boxes):
        raise ValueError(f"SAMPLE_ID {sample_id}: a box has not four sides")
    scores = [float(_plain(face[2])) for face in faces]
    sides = [(box[2] - box[0], box[3] - box[1]) for box, score in zip(boxes, scores, strict=True) if score >= MIN_SCORE]
    return {
        "SAMPLE_ID": sample_id,
        "num_faces": len(sides),
        "face_side": max((min(pair) for pair in sides), default=None),
        "face_area": max((pair[0] * pair[1] for pair in sides), default=None),
        "boxes": boxes,
        "scores": scores,
    }


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == NUM_BATCH_ROWS:
            yield batch
            batch = []
    yield batch


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
