"""A real S3 server on this machine, for what must hold in an object store."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from curation.storage.paths import filesystem, location
from tests.curation.whole_run import files_of


@contextmanager
def s3_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield the root of an empty bucket; the server ends with the block."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        root = location(f"s3://runs-{uuid.uuid4().hex}")  # the server's memory outlives it within one process
        files, name = filesystem(root)
        files.mkdir(name)
        yield root
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def put_run(run: Path, target: Path) -> None:
    """Copy the files of a run into a bucket."""
    files, root = filesystem(target)
    for name, content in files_of(run).items():
        files.pipe_file(f"{root}/{name}", content)
