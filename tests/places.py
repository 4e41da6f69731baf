"""Where things lie in the checkout, for tests that look at it from wherever they themselves stand."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
