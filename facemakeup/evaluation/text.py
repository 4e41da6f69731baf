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
    yield "judges that are here:" if panel.judges else "no judge is here"
    for judge in panel.judges:
        digest = judge.facts.get("sha256", "")[:12]
        yield f"  {judge.name} ({', '.join(judge.columns)}): {KINDS[judge.kind]}, sha256 {digest}"
    if panel.absent:
        yield "not here, each with the shortest way to have it:"
    for absent in panel.absent:
        yield f"  {absent.name} ({', '.join(absent.columns)}): {absent.how}"
