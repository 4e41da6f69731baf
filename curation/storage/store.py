"""How a finished local file becomes an object of a store, where no lock of ours holds anybody back.

The store itself compares: an object that was not there must still not be there, and one that is replaced must still be
the one that was seen before the lease was looked at. So a run that was replaced in between changes nothing
that its successor wrote, however long the request was on its way.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from curation.errors import StorageError
from curation.storage.fence import is_fenced, passing
from curation.storage.paths import filesystem

PART_BYTES = 64 << 20
"""Larger files go up in parts of this size, and appear with the last request."""
NUM_UPLOADS = 4
MAX_TRIES = 5
CONFLICTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404"})
"""Codes by which S3 says that an object is not what a request takes it for."""


def put(temp: Path, path: Path) -> None:
    """Make a local file the object at `path`: with one request it is there, or it is not.

    Raises:
        LeaseError: the folder is fenced, and another run took it over.
        StorageError: others write the same object all the time.
        OSError: the store refuses.
    """
    files, name = filesystem(path)
    if not is_fenced(path) or not hasattr(files, "call_s3"):
        with passing(path):
            files.put_file(str(temp), name)
        files.invalidate_cache()
        return
    for _ in range(MAX_TRIES):
        try:
            _put_if_unchanged(files, temp, path, name)
        except OSError as error:
            if not _is_conflict(error):
                raise
            if _holds(files, name, temp):
                return  # the store did what we asked, and its answer was lost on the way
        else:
            return
        finally:
            files.invalidate_cache()
    raise StorageError(f"{path}: changed by others {MAX_TRIES} times while it was written")


def _put_if_unchanged(files: Any, temp: Path, path: Path, name: str) -> None:
    """Put a file where nothing lies, or in the place of what lies there now and nothing else."""
    if temp.stat().st_size > PART_BYTES:
        _put_in_parts(files, temp, path, name)
        return
    unchanged = _as_it_is(files, name)
    with passing(path):
        files.put_file(str(temp), name, **unchanged)


def _put_in_parts(files: Any, temp: Path, path: Path, name: str) -> None:
    bucket, _, key = name.partition("/")
    upload = {"Bucket": bucket, "Key": key}
    upload["UploadId"] = files.call_s3("create_multipart_upload", **upload)["UploadId"]

    def put_part(number: int) -> dict[str, Any]:
        with temp.open("rb") as file:
            file.seek((number - 1) * PART_BYTES)
            body = file.read(PART_BYTES)
        return {
            "PartNumber": number,
            "ETag": files.call_s3("upload_part", **upload, PartNumber=number, Body=body)["ETag"],
        }

    try:
        with ThreadPoolExecutor(NUM_UPLOADS) as pool:
            parts = list(pool.map(put_part, range(1, 1 + -(-temp.stat().st_size // PART_BYTES))))
        unchanged = _as_it_is(files, name)
        with passing(path):
            files.call_s3("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts}, **unchanged)
    except BaseException:
        files.call_s3("abort_multipart_upload", **upload)
        raise


def _as_it_is(files: Any, name: str) -> dict[str, str]:
    """Return the condition that an object is as it is now."""
    files.invalidate_cache()
    try:
        tag = files.info(name).get("ETag")
    except FileNotFoundError:
        tag = None
    return {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}


def _is_conflict(error: OSError) -> bool:
    said = getattr(error.__cause__, "response", None) or {}
    return isinstance(error, FileExistsError) or said.get("Error", {}).get("Code") in CONFLICTS


def _holds(files: Any, name: str, temp: Path) -> bool:
    files.invalidate_cache()
    try:
        with files.open(name, "rb") as theirs, temp.open("rb") as ours:
            return all(mine == other for mine, other in _blocks(ours, theirs))
    except FileNotFoundError:
        return False


def _blocks(ours: Any, theirs: Any) -> Iterator[tuple[bytes, bytes]]:
    while True:
        mine, other = ours.read(1 << 20), theirs.read(1 << 20)
        yield mine, other
        if not mine and not other:
            return
