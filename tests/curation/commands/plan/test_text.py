from dataclasses import replace

from curation.commands.plan.forecast import Forecast, Range, StageForecast
from curation.commands.plan.text import tell, tell_scores

FORECAST = Forecast(
    num_rows=24_000,
    num_parts=3,
    num_sampled=2000,
    num_workers=4,
    link_rot=Range(0.123456, 0.1, 0.2),
    num_arriving=Range(21_037.1, 20_000, 22_000),
    num_bytes=Range(1.234e9, 1e9, 1.5e9),
    num_final=Range(950, 900, 1000),
    stages={
        "fetch": StageForecast(0.1, 2.0, 1.25, 0.25),
        "curate": StageForecast(0.2, 0.0, 12_345.678, 1234.5),
        "pack": StageForecast(0.01, 0.0, 0.00125, 0.0),
    },
)


def test_a_forecast_is_told_in_shares_gigabytes_hours_and_money() -> None:
    assert tell(FORECAST).splitlines() == [
        "24000 rows in 3 parts; measured on 2000 of them",
        "link rot              12.35% (95 %: 10 to 20)",
        "pictures that arrive  2.104e+04 (95 %: 2e+04 to 2.2e+04)",
        "their bytes           1.234 GB (95 %: 1 to 1.5)",
        "pictures at the end   950 (95 %: 900 to 1,000)",
        "fetch                 1.25 h with 4 workers, cost 0.25",
        "curate                1.235e+04 h with 4 workers, cost 1,234.50",
        "pack                  0.00125 h with 4 workers, cost 0.00",
    ]


def test_without_a_price_no_cost_is_told() -> None:
    free = replace(FORECAST, stages={name: replace(one, cost=None) for name, one in FORECAST.stages.items()})
    assert "cost" not in tell(free)
    assert tell(free).splitlines()[5] == "fetch                 1.25 h with 4 workers"


def test_what_came_is_held_against_its_interval_and_where_there_is_none_against_the_value() -> None:
    scores: dict[str, dict[str, float | bool]] = {
        "link_rot": {"value": 0.12, "low": 0.1, "high": 0.2, "came": 0.11111, "is_within": True},
        "num_final": {"value": 950, "low": 900, "high": 1000, "came": 1204, "is_within": False},
        "hours_fetch": {"value": 1.25, "came": 2.5},
    }
    assert tell_scores(scores).splitlines() == [
        "link_rot: 0.1111, as forecast (0.1 to 0.2)",
        "num_final: 1,204, NOT as forecast (900 to 1,000)",
        "hours_fetch: 2.5, forecast 1.25",
    ]
