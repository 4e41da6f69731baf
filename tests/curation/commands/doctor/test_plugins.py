"""What the doctor says of plugins, from the metadata of distributions as an installer writes it."""

from pathlib import Path

import pytest

from curation.commands.doctor.plugins import KINDS, plugins
from filters.plugins import DETECTORS, FILTERS, GATES, HASH_MATCHERS, RECOGNISERS
from tests.distributions import bring

OTHERS = {
    DETECTORS: "owl = own_matcher:detector\ncenterface = own_matcher:another\n",
    RECOGNISERS: "knower = own_matcher:recogniser\n",
    GATES: "tall = not_here:gate\n",
}
"""Group -> what the distribution offers in it."""


def test_plugins_are_told_with_what_they_offer_and_what_offers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(KINDS) == {FILTERS, DETECTORS, RECOGNISERS, GATES, HASH_MATCHERS}
    (tmp_path / "own_filters_of_mine").mkdir()
    for name in ("__init__", "sharp", "bright"):
        (tmp_path / "own_filters_of_mine" / f"{name}.py").write_text("")
    (tmp_path / "own_matcher.py").write_text("")
    filters = f"[{FILTERS}]\nmine = own_filters_of_mine\ngone = never_there_at_all\n"
    others = "".join(f"[{group}]\n{names}" for group, names in OTHERS.items())
    bring(tmp_path, "own-things", f"{filters}[{HASH_MATCHERS}]\nhashes = own_matcher:make\n{others}", "1.2")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FACECAPTIONHQ_FILTERS", str(tmp_path / "own_filters_of_mine"))
    told = {name: (is_there, fact) for name, is_there, fact, _ in plugins()}
    assert told["mine"] == (True, "filters bright, sharp (own_filters_of_mine) of own-things 1.2")
    assert told["gone"] == (False, "filters (never_there_at_all) of own-things 1.2")
    assert told["hashes"] == (True, "a matcher of hashes (own_matcher:make) of own-things 1.2")
    assert told[str(tmp_path / "own_filters_of_mine")][1] == "filters bright, sharp of FACECAPTIONHQ_FILTERS"
    assert told["owl"] == (True, "a face detector (own_matcher:detector) of own-things 1.2")
    assert told["knower"] == (True, "a face recogniser (own_matcher:recogniser) of own-things 1.2")
    assert told["tall"] == (False, "a gate of metadata (not_here:gate) of own-things 1.2")
    assert told["centerface"][0] is False and told["centerface"][1].endswith("this program's own of that name is used")


def test_a_package_that_cannot_be_imported_is_told_and_stops_no_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boom_of_ours").mkdir()
    (tmp_path / "boom_of_ours" / "__init__.py").write_text("raise RuntimeError('no licence key')")
    monkeypatch.syspath_prepend(str(tmp_path))
    points = f"[{DETECTORS}]\nboom = boom_of_ours.det:make\n[{FILTERS}]\nfilters = boom_of_ours.inner\n"
    bring(tmp_path, "boom", points)
    told = {name: is_there for name, is_there, _, _ in plugins()}
    assert told["boom"] is False and told["filters"] is False
