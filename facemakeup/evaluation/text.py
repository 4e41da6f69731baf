"""What `evaluate` says of its judges and of its table."""

from collections.abc import Iterator

from facemakeup.evaluation.panel import Panel

KINDS = {
    "real": "the published judge",
    "held-out": "a recogniser that conditions no method",
    "stand-in": "a stand-in",
}


def tell_panel(panel: Panel) -> Iterator[str]:
    """Yield which columns have which judge, and for those that have none what to type."""
    for judge in panel.judges:
        digest = judge.facts.get("sha256", "")[:12]
        yield f"{', '.join(judge.columns)}: {judge.name}, {KINDS[judge.kind]} (sha256 {digest})"
    for absent in panel.absent:
        yield f"{', '.join(absent.columns)}: {absent.name} is not here. {absent.how}"
