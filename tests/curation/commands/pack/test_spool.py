import pytest

from curation.commands.pack import spool
from curation.commands.pack.spool import Spool


@pytest.mark.parametrize("max_bytes", [1, 1 << 20])
def test_samples_leave_in_any_order_whether_they_wait_in_memory_or_on_disk(
    max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MAX_MEMORY_BYTES", max_bytes)
    with Spool() as waiting:
        for number in range(5):
            waiting.put(number, {"row": number}, [("a", bytes([number]) * number), ("b", b"")])
        for number in (3, 0, 4, 2, 1):
            row, members = waiting.take(number)
            assert (row, list(members)) == ({"row": number}, [("a", bytes([number]) * number), ("b", b"")])
        with pytest.raises(KeyError):
            waiting.take(3)
