"""A forecast, and how it turned out, for a terminal."""

from collections.abc import Iterator, Mapping

from curation.commands.plan.forecast import Forecast
from curation.printable import counted, joined


def tell(forecast: Forecast) -> str:
    """Return the forecast as a table: what arrives and stays with 95 % intervals, then hours and cost by stage."""
    return joined(_lines(forecast))


def tell_scores(scores: Mapping[str, Mapping[str, float | bool]]) -> str:
    """Return a line per figure of `score_run`: what came, and whether it lies within what was forecast."""
    return joined(_score(name, figures) for name, figures in scores.items())


def _lines(forecast: Forecast) -> Iterator[str]:
    rows, parts = counted(forecast.num_rows, "row"), counted(forecast.num_parts, "part")
    yield f"{rows} in {parts}; measured on {forecast.num_sampled} of them"
    for what, figure, unit in (
        ("link rot", forecast.link_rot.times(100), "%"),
        ("pictures that arrive", forecast.num_arriving, ""),
        ("their bytes", forecast.num_bytes.times(1e-9), " GB"),
        ("pictures at the end", forecast.num_final, ""),
    ):
        yield f"{what:<22}{figure.value:,.4g}{unit} (95 %: {figure.low:,.4g} to {figure.high:,.4g})"
    for stage, figures in forecast.stages.items():
        cost = "" if figures.cost is None else f", cost {figures.cost:,.2f}"
        yield f"{stage:<22}{figures.hours:,.4g} h with {counted(forecast.num_workers, 'worker')}{cost}"


def _score(name: str, figures: Mapping[str, float | bool]) -> str:
    if "is_within" not in figures:
        return f"{name}: {figures['came']:,.4g}, forecast {figures['value']:,.4g}"
    verdict = "as forecast" if figures["is_within"] else "NOT as forecast"
    return f"{name}: {figures['came']:,.4g}, {verdict} ({figures['low']:,.4g} to {figures['high']:,.4g})"
