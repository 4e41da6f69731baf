import pytest

from curation.dataset.manifest import ShardReport
from curation.run.progress import progress
from curation.run.runner import ShardFailure


def test_each_shard_is_one_line_however_narrow_the_window(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = f"/{'a-folder-of-some-length/' * 5}00001.tar"
    with progress("curate") as on_outcome:
        on_outcome(ShardReport("00000", "work", 2, 2, {}, {}))
        on_outcome(ShardFailure("00001", f"{path}: torn"))
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("curate 00000: 2 seen")
    assert second.startswith("curate 00001: FAILED") and path in second
