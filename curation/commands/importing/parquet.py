"""Parquet from outside, read so that damage is one clear error, and no row less than the footer promises passes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import UsageError

THRIFT_LIMIT_BYTES = 256 * 1024 * 1024
DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError, RuntimeError)
"""What reading a damaged file raises."""


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file whose footer holds together.

    Raises:
        UsageError: it does not, or the file is no parquet.
    """
    with ExitStack() as stack:
        with naming(path):
            file = stack.enter_context(
                pq.ParquetFile(path, thrift_string_size_limit=THRIFT_LIMIT_BYTES, page_checksum_verification=True)
            )
            footer = file.metadata
            num_rows = sum(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
            _ = file.schema_arrow.names
        if num_rows != footer.num_rows:
            raise UsageError(
                f"{path}: damaged parquet: its footer promises {footer.num_rows} rows, its row groups {num_rows}"
            )
        yield file


def batches(path: Path, names: Sequence[str], num_batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield all rows of a file, of the columns named.

    Raises:
        UsageError: it is damaged, or fewer or more rows were read than its footer promises.
    """
    with opened(path) as file:
        with naming(path):
            reader = file.iter_batches(num_batch_rows, columns=list(names))
        num_read = 0
        while True:
            with naming(path):
                batch = next(reader, None)
            if batch is None:
                break
            num_read += batch.num_rows
            yield batch
        if num_read != file.metadata.num_rows:
            raise UsageError(
                f"{path}: damaged parquet: its footer promises {file.metadata.num_rows} rows, {num_read} were read"
            )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in whatever reading it raises."""
    try:
        yield
    except DAMAGE as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UsageError(f"{path}: cannot be read as parquet: {said}") from error
