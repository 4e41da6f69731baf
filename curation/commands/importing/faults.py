"""What was wrong with rows and values: how often, and where the first one stands.

An example is a place (file, line or row), never what stands there: a manifest must not repeat what `forget` takes out.
"""

from collections import Counter
from collections.abc import Mapping


class Faults(Counter[str]):
    """Fault -> how often it was seen, and an example of each."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.examples: dict[str, str] = {}
        self.lost_rows: Counter[str] = Counter()
        """Those that cost a whole row: rows in = rows out + the sum of these."""

    def note(self, fault: str, example: str, count: int = 1) -> None:
        """Count a value that cannot be used; its row goes on without it."""
        if count:
            self[fault] += count
            self.examples.setdefault(fault, example)

    def lose(self, fault: str, example: str, count: int = 1) -> None:
        """Count rows that cannot be used at all."""
        self.note(fault, example, count)
        if count:
            self.lost_rows[fault] += count

    @property
    def named(self) -> Mapping[str, int]:
        """The counts in order of their names."""
        return dict(sorted(self.items()))
