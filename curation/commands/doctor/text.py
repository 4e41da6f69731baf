"""The findings about a machine, for a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from curation.commands.doctor.examine import Finding
from curation.printable import joined
from filters.weights import catalogue, way_to_get


def tell(findings: Sequence[Finding]) -> str:
    """Return a line per finding, and under each that is wrong how to mend it."""
    return joined(line for finding in findings for line in _lines(finding))


def tell_readiness(checked: str, lacking: Mapping[str, Sequence[str]], *, was_named: bool) -> str:
    """Return which recipe was checked, which could run here now, what others lack, and how to come by that.

    `lacking` has the recipes of the package, each with the weights that it lacks.
    """
    why = "" if was_named else ", which commands take unless --recipe names another"
    ready = [name for name, names in lacking.items() if not names]
    wanted = dict.fromkeys(name for names in lacking.values() for name in names)
    lines = [f"checked: the recipe {checked}{why}"]
    lines += [f"ready: {', '.join(ready)}; such as `facecaptionhq look photos/ --recipe {ready[0]}`"] if ready else []
    lines += [f"not ready: {name} lacks {', '.join(names)}" for name, names in lacking.items() if names]
    ways = {entry.name: way_to_get(entry) for entry in catalogue()}
    return joined([*lines, *(f"to have {name}: {ways.get(name, 'models add')}" for name in wanted)])


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{'ok  ' if finding.ok else 'BAD '} {finding.subject}: {finding.fact}"
    if not finding.ok:
        yield f"     mend: {finding.mend}"
