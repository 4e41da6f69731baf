"""The one door to img2dataset: its own downloader, run in this process on one list of URLs.

Its function that reads a URL is replaced by `curation.commands.fetch.http`, its writer by
`curation.commands.fetch.bodies`. It hands on what arrives without decoding it, in the order in which things arrive; a
row that throws inside it is gone without a trace.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from curation.commands.fetch.bodies import Bodies
from curation.commands.fetch.direct import Ask
from curation.recipe.settings import FetchSettings

SHARD = "00000"
MAX_ROWS = 10**9


def through_img2dataset(urls: Sequence[str], bodies: Bodies, folder: Path, settings: FetchSettings, ask: Ask) -> None:
    """Let img2dataset's `Downloader` fill `bodies`; its counts lie in the folder, its prints go where talk belongs."""

    def download_image(request: tuple[int, str], *_: Any) -> tuple[int, IO[bytes] | None, str | None]:
        answer = ask(*request)
        return request[0], answer.stream, answer.reason

    module, resizer_class = import_img2dataset()
    downloader = module.Downloader(
        sample_writer_class=lambda *_: _Writer(bodies),
        resizer=resizer_class(256, "no", resize_only_if_bigger=False, disable_all_reencoding=True),
        thread_count=settings.num_threads,
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url"],
        timeout=settings.timeout_s,
        number_sample_per_shard=MAX_ROWS,
        oom_shard_count=len(SHARD),
        compute_hash=None,  # `Bodies` hashes what it stores
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=settings.user_agent_token,
        disallowed_header_directives=None,
    )
    wanted = folder / "urls.arrow"
    table = pa.table({"url": pa.array(urls, pa.string())})
    with pa.OSFile(str(wanted), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with contextlib.redirect_stdout(sys.stderr), _replaced(module, "download_image", download_image):
        downloader.download_shard((int(SHARD), str(wanted)))


class _Writer:
    """What img2dataset takes for a writer of samples."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def write(self, image_bytes: bytes | None, key: str, caption: str | None, meta: Mapping[str, Any]) -> None:
        """Take what came of one request.

        Raises:
            OSError: the disk does not take it.
        """
        self._bodies.take(int(key), image_bytes, meta["error_message"])

    def close(self) -> None:
        """Write nothing more."""


@contextmanager
def _replaced(module: Any, name: str, replacement: Any) -> Iterator[None]:
    """Put a function of ours in the place of one of img2dataset's; one part at a time runs in a process."""
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)


def import_img2dataset() -> tuple[Any, Any]:
    """Import img2dataset without the call home of its albumentations and its warning of a module gone in 3.13."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from img2dataset import downloader
        from img2dataset.resizer import Resizer
    return downloader, Resizer
