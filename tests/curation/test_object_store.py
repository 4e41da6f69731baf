import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.pack.stage import pack
from curation.dataset.manifest import read_manifest
from curation.errors import LeaseError, ShardError, StorageError, UsageError
from curation.run.runner import Spread
from curation.storage import publish as commit
from curation.storage import store
from curation.storage.lease import hold
from curation.storage.paths import filesystem, location
from curation.storage.publish import create, publish, record_of
from tests.curation.shards import RECIPE, bytes_of, mixed_source, recipe_from
from tests.serving import Web, serving

ALONE = Spread(num_workers=0)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A real HTTP server that speaks S3; it looks at a condition and puts the object in one step, as S3 does."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    one_at_a_time, put = threading.Lock(), S3Response._key_response_put

    def put_in_one_step(self: Any, query: dict[str, Any], key_name: str) -> Any:
        with one_at_a_time:
            return put(self, query, key_name)

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "_key_response_put", put_in_one_step)
        moto.start()
        host, port = moto.get_host_and_port()
        yield f"http://{host}:{port}"
        moto.stop()


def bucket_at(address: str, monkeypatch: pytest.MonkeyPatch, name: str) -> Path:
    """Make a bucket and return it; whatever this process or its children ask of S3 goes to `address`."""
    from s3fs import S3FileSystem

    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    S3FileSystem.clear_instance_cache()
    folder = location(f"s3://{name}-{uuid.uuid4().hex}")  # the server's memory outlives it within one process
    files, path = filesystem(folder)
    files.mkdir(path)
    return folder


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    return bucket_at(server, monkeypatch, "bucket")


def upload(source: Path, target: Path) -> Path:
    for path in sorted(source.iterdir()):
        (target / path.name).write_bytes(path.read_bytes())
    return target


def objects(folder: Path) -> dict[str, bytes]:
    files, name = filesystem(folder)
    return {path.rpartition("/")[2]: files.cat_file(path) for path in files.find(name)} if files.exists(name) else {}


def data_of(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in objects(folder).items() if name.endswith((".tar", ".parquet"))}


@pytest.mark.slow
def test_shards_come_from_a_bucket_and_go_to_one_with_the_same_bytes(bucket: Path, tmp_path: Path) -> None:
    local, recipe = mixed_source(tmp_path / "in"), recipe_from(tmp_path)
    curate(local, tmp_path / "curate", recipe, ALONE)
    pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE)
    source = upload(local, bucket / "in")
    curate(source, bucket / "run" / "curate", recipe, Spread(2))
    pack(bucket / "run" / "curate", bucket / "run" / "pack", recipe, ALONE)
    assert data_of(bucket / "run" / "curate") == bytes_of(tmp_path / "curate")
    assert data_of(bucket / "run" / "pack") == bytes_of(tmp_path / "pack")
    found, expected = (read_manifest(folder) for folder in (bucket / "run" / "pack", tmp_path / "pack"))
    assert found == expected
    stricter = recipe_from(tmp_path / "other", RECIPE.replace("2.0", "60.0"))
    again = decide(bucket / "run", stricter, ALONE, source)
    assert again.num_kept < found.num_kept
    assert set(data_of(bucket / "run" / "curate")) == {name for report in again.shards for name in report.files}


@pytest.mark.slow
def test_the_command_takes_addresses(bucket: Path, tmp_path: Path) -> None:
    source, recipe = upload(mixed_source(tmp_path / "in", 1), bucket / "in"), recipe_from(tmp_path)
    program = str(Path(sys.executable).with_name("facecaptionhq"))
    command = [program, "curate", str(source), f"{bucket}//out", "--recipe", recipe.path, "--workers", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "curate: 8 seen = 4 kept" in done.stdout
    assert read_manifest(bucket / "out").num_seen == 8


def test_an_address_that_no_filesystem_knows_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="nowhere://bucket/run"):
        location("nowhere://bucket/run")


@pytest.mark.slow
def test_of_two_that_create_the_same_object_exactly_one_wins_a_hundred_times(bucket: Path) -> None:
    for race in range(100):
        path, barrier, wins = bucket / f"race{race}.json", threading.Barrier(2), list[int]()

        def run(who: int, path: Path = path, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            if create(path, {"who": who}):
                wins.append(who)  # noqa: B023  read in the same round

        threads = [threading.Thread(target=run, args=(who,)) for who in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(wins) == 1
        assert commit.read_sealed(path) == {"who": wins[0]}


@pytest.mark.slow
def test_a_bucket_is_leased_as_a_folder_is(bucket: Path) -> None:
    with hold(bucket / "out") as first:
        with pytest.raises(LeaseError, match="held by another run"), hold(bucket / "out"):
            pass
        first.require()
    with hold(bucket / "out") as second:
        assert second.number == first.number + 1
        with pytest.raises(LeaseError, match="took over"):
            first.require()


def test_a_writer_that_fails_publishes_nothing(bucket: Path) -> None:
    def fail(temp: Path) -> None:
        temp.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(StorageError, match="could not be written: disk full"):
        publish(bucket / "a.tar", fail)
    assert objects(bucket) == {}


def test_a_store_that_gives_back_other_bytes_is_not_believed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    honest = S3FileSystem._put_file

    async def lossy(self: Any, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        Path(lpath).write_bytes(Path(lpath).read_bytes()[:-1])
        await honest(self, lpath, rpath, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_put_file", lossy)
    bucket = bucket_at(server, monkeypatch, "lossy")
    with pytest.raises(ShardError, match="not what was put there"):
        publish(bucket / "a.tar", lambda temp: temp.write_bytes(b"whole"))


LARGE_UPLOAD = """
import sys
from curation.storage import store
from curation.storage.lease import hold
from curation.storage.publish import publish
from curation.storage.paths import location
store.PART_BYTES, store.NUM_UPLOADS = 5 << 20, 1
path = location(sys.argv[1])
with hold(path.parent):
    publish(path, lambda temp: temp.write_bytes(bytes(range(256)) * (1 << 16)))
"""
"""Uploads 16 MiB in parts of 5, the least that S3 takes."""


class Failing(Web):
    """A proxy before the server that answers every third write with 500 or 503, and can stall in mid-upload.

    It can also be steady, do something just before a request goes on, and lose the answer to one.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream, self.num_writes, self.is_steady = upstream, 0, False
        self.before: dict[str, Callable[[], None]] = {}
        """End of the path of a PUT -> what to do when it comes, once."""
        self.lost: set[str] = set()
        """Ends of paths of PUTs whose first answer is lost."""
        self.holds_back_listings_until: str | None = None
        """Listings are made, and held back until the object with this end of its path is read."""
        self.is_listed, self.is_read, self.is_late = threading.Event(), threading.Event(), threading.Event()
        self.stall_at_part: int | None = None
        self.stalled, self.goes_on = threading.Event(), threading.Event()
        super().__init__(Relay)


class Relay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Failing

    def _relay(self) -> None:
        body = self._body()
        if self.command in ("PUT", "POST"):
            self.server.num_writes += 1
            if self.command == "PUT" and (meanwhile := self.server.before.pop(self.path.rpartition("/")[2], None)):
                meanwhile()
            if self.server.stall_at_part is not None and f"partNumber={self.server.stall_at_part}" in self.path:
                self.server.stalled.set()
                self.server.goes_on.wait(120)
            elif self.server.is_steady:
                pass
            elif self.server.stall_at_part is None and self.server.num_writes % 3 == 0:
                self._answer(503 if self.server.num_writes % 2 else 500, {}, b"<Error><Code>SlowDown</Code></Error>")
                return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "expect")}
        headers.setdefault("Content-Type", "application/octet-stream")  # urllib would call it a form
        request = Request(self.server.upstream + self.path, data=body, headers=headers, method=self.command)
        try:
            with urlopen(request, timeout=60) as response:
                if self.path.rpartition("/")[2] in self.server.lost:
                    self.server.lost.discard(self.path.rpartition("/")[2])
                    self._answer(500, {}, b"<Error><Code>InternalError</Code></Error>")
                    return
                self._hold_back()
                self._answer(response.status, dict(response.headers), response.read())
        except OSError as error:
            code, body = getattr(error, "code", 502), error.read() if hasattr(error, "read") else b""
            self._answer(code, dict(getattr(error, "headers", {})), body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _relay

    def _hold_back(self) -> None:
        """Let a listing that was asked for before a write arrive after it, while its reader looks at what it wrote."""
        if self.command != "GET" or (name := self.server.holds_back_listings_until) is None:
            return
        if "list-type" in self.path:
            self.server.is_listed.set()
            self.server.is_read.wait(60)
        elif self.path.endswith(name):
            self.server.is_read.set()
            self.server.is_late.wait(60)

    def _body(self) -> bytes | None:
        if (length := self.headers.get("Content-Length")) is not None:
            return self.rfile.read(int(length))
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return None
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, code: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(code)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives it
        pass


@pytest.fixture
def proxy(server: str) -> Iterator[Failing]:
    with serving(Failing(server)) as relay:
        try:
            yield relay
        finally:
            relay.goes_on.set()


@pytest.mark.slow
def test_a_store_that_answers_500_and_503_costs_retries_and_no_byte(
    proxy: Failing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = bucket_at(proxy.address, monkeypatch, "shaky")
    local, recipe = mixed_source(tmp_path / "in", 1), recipe_from(tmp_path)
    curate(local, tmp_path / "whole", recipe, ALONE)
    curate(upload(local, bucket / "in"), bucket / "out", recipe, ALONE)
    assert proxy.num_writes > 9
    assert data_of(bucket / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_kill_in_the_middle_of_an_upload_shows_no_object(proxy: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = bucket_at(proxy.address, monkeypatch, "killed")
    proxy.stall_at_part = 2
    process = subprocess.Popen([sys.executable, "-c", LARGE_UPLOAD, str(bucket / "big.tar")], stderr=subprocess.DEVNULL)
    assert proxy.stalled.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    proxy.stall_at_part = None
    proxy.goes_on.set()
    assert "big.tar" not in objects(bucket)
    subprocess.run([sys.executable, "-c", LARGE_UPLOAD, str(bucket / "big.tar")], check=True)
    assert record_of(bucket / "big.tar").num_bytes == 1 << 24


def write(content: bytes) -> Callable[[Path], object]:
    return lambda temp: temp.write_bytes(content)


def put_behind(proxy: Failing, bucket: Path, name: str, content: bytes) -> None:
    """Put an object past the proxy, and past all that this process knows of the bucket."""
    import boto3  # type: ignore[import-untyped]  # it has no stubs

    client = boto3.client("s3", endpoint_url=proxy.upstream)
    client.put_object(Bucket=str(bucket).removeprefix("s3://").strip("/"), Key=name, Body=content)


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, b"what it replaces"])
@pytest.mark.parametrize("part_bytes", [1 << 20, 1])
def test_a_write_that_is_on_its_way_while_another_run_takes_over_changes_nothing(
    proxy: Failing, monkeypatch: pytest.MonkeyPatch, before: bytes | None, part_bytes: int
) -> None:
    """The request of the replaced run passed its look at the lease, and reaches the store after its successor's."""
    proxy.is_steady = True
    bucket, address = bucket_at(proxy.address, monkeypatch, "woken"), "00000.tar"
    monkeypatch.setattr(store, "PART_BYTES", part_bytes)
    if before is not None:
        publish(bucket / "out" / address, write(before))

    def take_over() -> None:
        for name, content in ((address, b"the successor's"), ("_lease/000009.json", b"{}")):
            put_behind(proxy, bucket, f"out/{name}", content)

    with hold(bucket / "out"), pytest.raises(LeaseError, match="lease 9"):
        proxy.before[address] = take_over
        publish(bucket / "out" / address, write(b"x"))
    assert (bucket / "out" / address).read_bytes() == b"the successor's"


@pytest.mark.slow
def test_a_holder_whose_object_was_changed_by_one_that_it_replaced_writes_it_again(
    proxy: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.is_steady = True
    bucket = bucket_at(proxy.address, monkeypatch, "again")
    with hold(bucket / "out"):
        proxy.before["a.tar"] = lambda: put_behind(proxy, bucket, "out/a.tar", b"of one that was replaced")
        publish(bucket / "out" / "a.tar", write(b"ours"))
        assert (bucket / "out" / "a.tar").read_bytes() == b"ours"


@pytest.mark.slow
def test_an_answer_that_is_lost_on_its_way_is_no_sign_of_another_run(
    proxy: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.is_steady = True
    bucket = bucket_at(proxy.address, monkeypatch, "lost")
    with hold(bucket / "out"):
        proxy.lost.add("a.tar")
        publish(bucket / "out" / "a.tar", write(b"ours"))
    assert not proxy.lost and (bucket / "out" / "a.tar").read_bytes() == b"ours"


def test_what_another_thread_listed_before_a_write_does_not_belie_what_was_written(
    proxy: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat beside a run that lists its folder: the listing is made before the write, and arrives after."""
    proxy.is_steady = True
    bucket = bucket_at(proxy.address, monkeypatch, "late")
    publish(bucket / "out" / "a.json", write(b"short"))
    proxy.holds_back_listings_until = "a.json"

    def list_folder() -> None:
        files, name = filesystem(bucket / "out")
        files.ls(name)
        proxy.is_late.set()

    lister = threading.Thread(target=list_folder)
    lister.start()
    assert proxy.is_listed.wait(60)
    publish(bucket / "out" / "a.json", write(b"longer than before"))
    lister.join()
    assert proxy.is_late.is_set()
