import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.commands.report.quantiles import NUM_QUANTILES, Quantiles

SCORES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), max_size=60)


@given(st.lists(SCORES, max_size=5))
def test_quantiles_of_scores_that_wait_in_a_file_are_those_that_numpy_gives(parts: list[list[float]]) -> None:
    quantiles = Quantiles()
    for part in parts:
        quantiles.add(np.array(part, np.float64))
    every = np.concatenate([np.array([], np.float64), *map(np.array, parts)])
    steps = np.linspace(0.0, 1.0, NUM_QUANTILES + 1)
    right = tuple(np.quantile(every, steps, method="inverted_cdf").tolist()) if len(every) else ()
    assert quantiles.thousandths() == right
