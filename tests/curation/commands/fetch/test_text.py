"""A fetch that brings next to nothing says why, and does not end as if all were well."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from curation.commands.fetch.text import alarm
from curation.dataset.manifest import Manifest, read_manifest
from tests.curation.commands.fetch.test_stage import RECIPE, WAIVER, ranked
from tests.curation.shards import recipe_from


@pytest.mark.slow
def test_a_fetch_of_which_every_row_was_refused_ends_with_a_hint_and_another_code(tmp_path: Path) -> None:
    source = ranked(tmp_path, [f"http://127.0.0.1:9/{number}.jpg" for number in range(12)])
    recipe = recipe_from(tmp_path, RECIPE.format(rows_per_part=100, num_threads=4))
    command = ["fetch", str(source), str(tmp_path / "fetch"), "--recipe", recipe.path, "--workers", "0"]
    for _ in range(2):  # also where all of it was done before
        done = CliRunner().invoke(cli.app, [*command, "--waiver", WAIVER])
        assert done.exit_code == 1
        assert "0 of 12 pictures arrived; 12 were rejected by fetch: blocked_address (" in done.stderr
    assert read_manifest(tmp_path / "fetch").num_seen == 12


EMPTY = Manifest(
    stage="fetch", recipe_name="r", recipe_digest="d", work_digest="w", num_seen=0, num_kept=0, rejected={}, shards=()
)


@pytest.mark.parametrize(
    ("num_kept", "rejected", "is_told"),
    [
        (0, {}, False),
        (0, {"fetch": {"http_404": 1}}, True),
        (1, {"fetch": {"http_404": 1}}, False),
        (0, {"forget": {"forgotten": 3}}, False),
        (10, {"fetch": {"blocked_address": 110}}, True),
        (10, {"fetch": {"blocked_address": 110}, "forget": {"forgotten": 3}}, True),
        (13, {"fetch": {"blocked_address": 107}}, False),
        (5, {"fetch": {"blocked_address": 60, "dns": 55}}, False),
        (0, {"fetch": {"blocked_address": 60, "dns": 55}}, True),
        (1, {"fetch": {"blocked_address": 50}}, False),
    ],
)
def test_nothing_at_all_or_nine_tenths_of_many_is_told(
    num_kept: int, rejected: dict[str, dict[str, int]], is_told: bool
) -> None:
    num_seen = num_kept + sum(sum(counts.values()) for counts in rejected.values())
    assert (alarm(replace(EMPTY, num_seen=num_seen, num_kept=num_kept, rejected=rejected)) is not None) == is_told
