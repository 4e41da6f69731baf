"""Where things lie in the checkout, for tests that look at it from wherever they themselves stand."""

from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *(
        page
        for folder in (".github", "backends", "benchmarks", "configs", "docs", "examples", "tests")
        for page in sorted((ROOT / folder).rglob("*.md"))
    ),
]
"""Every page of the documentation."""
