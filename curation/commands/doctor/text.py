"""The findings about a machine, for a terminal."""

from collections.abc import Iterator, Sequence

from curation.commands.doctor.examine import Finding
from curation.printable import joined


def tell(findings: Sequence[Finding]) -> str:
    """Return a line per finding, and under each that is wrong how to mend it."""
    return joined(line for finding in findings for line in _lines(finding))


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{'ok  ' if finding.ok else 'BAD '} {finding.subject}: {finding.fact}"
    if not finding.ok:
        yield f"     mend: {finding.mend}"
