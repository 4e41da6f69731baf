"""Manifests and done records: what is sealed and yet not readable is named, and never half read."""

import re
from pathlib import Path
from typing import Any

import pytest

from curation.dataset.manifest import (
    MANIFEST_NAME,
    Manifest,
    ShardReport,
    committed,
    read_manifest,
    read_report,
    stats_path,
    write_manifest,
    write_report,
)
from curation.errors import VerificationError
from curation.storage.publish import publish_sealed, read_sealed

REPORT = ShardReport("00000", "work", 3, 2, {"curate": {"no_image": 1}}, {})
MANIFEST = Manifest("curate", "mine", "recipe", "work", 3, 2, REPORT.rejected, (REPORT,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished stage of one shard."""
    write_report(tmp_path, REPORT)
    write_manifest(tmp_path, MANIFEST, {})
    return tmp_path


def change(path: Path, **fields: Any) -> None:
    """Seal a file anew with other fields; None takes one away."""
    values = {**read_sealed(path), **fields}
    publish_sealed(path, {name: value for name, value in values.items() if value is not None})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": "blue"}, "'colour'"),
        ({"shards": None}, "'shards'"),
        ({"files": []}, "items"),
        ({"stage": None}, "stage"),
    ],
    ids=["unknown", "no_shards", "files_in_a_list", "no_stage"],
)
def test_a_sealed_manifest_with_other_fields_is_named_with_what_is_odd(
    folder: Path, fields: dict[str, Any], named: str
) -> None:
    change(folder / MANIFEST_NAME, **fields)
    with pytest.raises(VerificationError, match=rf"{re.escape(str(folder / MANIFEST_NAME))}: .*{named}"):
        read_manifest(folder, "curate")


def test_a_done_record_with_other_fields_is_named_and_does_not_count(folder: Path) -> None:
    path = stats_path(folder, "00000")
    assert committed(folder, "00000", "work") == read_report(path) == REPORT
    change(path, colour="blue")
    with pytest.raises(VerificationError, match=rf"{re.escape(str(path))}: .*'colour'"):
        read_report(path)
    assert committed(folder, "00000", "work") is None
