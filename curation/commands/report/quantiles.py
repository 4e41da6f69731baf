"""The scores at every thousandth of their order: exact, of any number, since they wait in a file."""

from tempfile import TemporaryFile

import numpy as np

from curation.commands.report.criteria import Floats

NUM_QUANTILES = 1000


class Quantiles:
    """Finite scores, eight bytes each on disk (`TMPDIR`); what is mapped into memory the system may take back."""

    def __init__(self) -> None:
        """Begin without any."""
        self._file, self._num = TemporaryFile(), 0  # noqa: SIM115  it goes with its last reference

    def add(self, scores: Floats) -> None:
        """Take more scores."""
        scores.astype(np.float64, copy=False).tofile(self._file)
        self._num += len(scores)

    def thousandths(self) -> tuple[float, ...]:
        """Return what NumPy's `quantile` by `inverted_cdf` gives at 0, 1/1000, ..., 1; nothing where there is no score.

        Source: Hyndman and Fan, Sample Quantiles in Statistical Packages (1996), definition 1.
        """
        if not self._num:
            return ()
        self._file.flush()
        place = self._num * np.linspace(0.0, 1.0, NUM_QUANTILES + 1) - 1
        places = np.maximum(np.ceil(place).astype(np.int64), 0)
        scores = np.memmap(self._file, np.float64, "r+")
        scores.partition(np.unique(places))
        return tuple(scores[places].tolist())
