"""The names that a user of Python may import, and nothing but them."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import curation
from tests.curation.shards import RECIPE, mixed_source

HEAVY = ("torch", "cv2", "ray", "pyarrow", "numpy", "duckdb", "pydantic", "PIL")


def test_importing_the_package_loads_no_library() -> None:
    probe = f"import sys, curation; dir(curation); print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_told_in_the_packages_page_and_lives_where_the_table_says() -> None:
    homes = {name: f"curation.{module}" for module, names in curation._HOMES.items() for name in names}
    assert sorted(homes) == sorted(curation.__all__) == sorted(dir(curation))
    for name, home in homes.items():
        assert re.search(rf"\b{name}\(|-> (a )?{name}\b|\ba {name}\b|are {name}s\b", curation.__doc__ or ""), name
        assert getattr(curation, name).__module__ == home and getattr(curation, name).__doc__, name


def test_no_room_takes_the_place_of_a_public_name() -> None:
    for module in curation._HOMES:
        import_module(f"curation.{module}")
    assert all(callable(getattr(curation, name)) for name in curation.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'curation' has no attribute 'curete'"):
        _ = curation.curete


def test_a_folder_is_curated_packed_and_asked_through_the_public_names(tmp_path: Path) -> None:
    from curation import Spread, curate, load_recipe, location, pack, read_ledger, read_manifest, verify, why

    (tmp_path / "recipe.toml").write_text(RECIPE)
    run, recipe, alone = location(str(tmp_path / "run")), load_recipe(tmp_path / "recipe.toml"), Spread(num_workers=0)
    manifest = curate(mixed_source(tmp_path / "in", 1), run / "curate", recipe, alone)
    packed = pack(run / "curate", run / "pack", recipe, alone)
    assert (manifest.num_seen, manifest.num_kept, packed.num_kept) == (8, 4, 4)
    assert read_manifest(run / "curate").rejected == manifest.rejected
    rows = read_ledger(run / "curate" / "00000.parquet").to_pylist()
    rejected = next(row for row in rows if not row["kept"])
    assert len(rows) == 8 and why(run, rejected["uid"])[0].stages[-1].reason == rejected["reason"]
    assert verify(run, alone).ok
