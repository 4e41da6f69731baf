"""The samples of some tars as columns in one file without a name that is mapped into memory.

Reading processes get the open file and map it too, so a million rows are held once, not once per process; and nothing
of it is left on a disk, whatever becomes of the run.
"""

import mmap
import os
import tempfile
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class Rows:
    """The samples, in order: one entry per sample in every array."""

    shard: Ints
    """Number of the tar."""
    offset: Ints
    """Byte offset of the header of the sample's first member."""
    num_bytes: Ints
    """Bytes up to the end of its last member, or to the next sample."""
    width: Ints
    """Width of the picture in pixels; 0 where the index does not say."""
    height: Ints
    """Height of the picture in pixels; 0 where the index does not say."""
    key: Any
    """Keys as an Arrow array of strings: no object per sample."""

    def __init__(self, file: BinaryIO) -> None:
        """Map a file in Arrow's format that holds the columns."""
        import pyarrow as pa

        self._file = file
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        with pa.ipc.open_file(pa.py_buffer(mapped)) as reader:
            (batch,) = (reader.get_batch(number) for number in range(reader.num_record_batches))
        for name in ("shard", "offset", "num_bytes", "width", "height"):
            setattr(self, name, batch.column(name).to_numpy())
        self.key = batch.column("key")

    @classmethod
    def of(cls, table: Any, folder: Path) -> "Rows":
        """Return the rows of a table, which is not empty; the file takes room where `folder` lies."""
        import pyarrow as pa

        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  it lives as long as its rows
        (batch,) = table.combine_chunks().to_batches()
        with pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        file.flush()
        return cls(file)

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to another process is the open file."""
        return _received, (DupFd(self._file.fileno()),)

    def __len__(self) -> int:
        return len(self.offset)


def _received(handle: Any) -> Rows:
    return Rows(os.fdopen(handle.detach(), "rb"))
