"""The log of what is in work: where it cannot be written, whoever wants to work is told so."""

from pathlib import Path

import pytest

from curation.errors import DiskFullError, StorageError
from curation.sandbox.in_flight import Intent


def test_a_full_disk_is_named_with_the_file() -> None:
    intent = Intent(Path("/dev/full"))
    with pytest.raises(DiskFullError, match=r"^/dev/full: no room to write it"):
        intent.begin(["a"])


def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "00000.intent"
    with pytest.raises(StorageError, match=f"^{path}: could not be written"):
        Intent(path).begin(["a"])
