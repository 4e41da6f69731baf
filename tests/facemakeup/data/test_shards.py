from collections.abc import Iterator
from pathlib import Path

import pytest

from facemakeup.data.index import build_index
from facemakeup.data.members import read_members
from facemakeup.data.shards import ShardStore, find_shards
from facemakeup.faults import DataError
from tests.facemakeup.tars import packed_sample, write_packed


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a real S3 protocol server on this machine."""
    moto_server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import fsspec

    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"), ("AWS_ACCESS_KEY_ID", "test"), ("NO_PROXY", "127.0.0.1"),
        ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "us-east-1"),
    ):  # fmt: skip
        patch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # one that speaks to another test's server may be left
    fsspec.filesystem("s3").mkdir("packed")
    yield "packed"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    patch.undo()
    server.stop()


def test_tars_in_an_object_store_are_indexed_read_and_noticed_when_they_change(bucket: str, tmp_path: Path) -> None:
    import fsspec

    filesystem = fsspec.filesystem("s3")
    paths = write_packed(tmp_path / "local", [packed_sample(n) for n in range(4)], per_shard=2)
    for path in paths:
        filesystem.put_file(str(path), f"{bucket}/{path.name}")
    store = ShardStore(tmp_path / "cache", 1 << 30)
    shards = find_shards([f"s3://{bucket}/*.tar"])
    assert [shard.address for shard in shards] == [f"s3://{bucket}/{path.name}" for path in paths]
    index = build_index(shards, store, tmp_path / "scans")
    for row in range(4):
        members = read_members(store, *index.where(row), index.key(row))
        assert members["jpg"] == packed_sample(row)[0][1]
    assert len(list((tmp_path / "scans").glob("*.parquet"))) == 2
    write_packed(tmp_path / "local", [packed_sample(n) for n in range(10, 14)], per_shard=2)
    filesystem.put_file(str(paths[0]), f"{bucket}/{paths[0].name}")
    filesystem.invalidate_cache()
    renewed = build_index(find_shards([f"s3://{bucket}/*.tar"]), store, tmp_path / "scans")
    assert [renewed.key(row) for row in range(2)] == [packed_sample(n)[0][0].partition(".")[0] for n in (10, 11)]
    filesystem.rm(f"{bucket}/{paths[1].name}")
    with pytest.raises(DataError, match=r"s3://packed/jpg-00001\.tar: cannot be fetched"):
        ShardStore(tmp_path / "other", 1 << 30).read(shards[1], 0, 512)
