from pathlib import Path

from curation.commands.importing.convert import Imported
from curation.commands.importing.text import tell


def test_an_import_without_faults_is_told_in_one_line() -> None:
    assert tell(Imported(7, {}, {"URL": "url"}), Path("out/laion.parquet")) == "7 rows in out/laion.parquet"


def test_every_kind_of_fault_has_its_own_line() -> None:
    faults = {"width_not_a_number": 2, "caption_broken": 1}
    assert tell(Imported(7, faults, {}), Path("a.parquet")).splitlines() == [
        "7 rows in a.parquet",
        "  width_not_a_number: 2",
        "  caption_broken: 1",
    ]
