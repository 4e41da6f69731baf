import json

from curation.commands.gc.collect import Collection, Removal
from curation.commands.gc.text import tell, values

FOUND = Collection(
    (
        Removal("curate/_tmp/a", "a temporary file of a dead run", 120),
        Removal("pack/jpg-00009.tar", "named by no manifest and no done record", 30),
    ),
    ("fetch/notes.txt",),
)


def test_what_went_and_what_is_left_is_told_with_the_sum_of_what_went() -> None:
    assert tell(FOUND, dry_run=False).splitlines() == [
        "removed curate/_tmp/a: a temporary file of a dead run",
        "removed pack/jpg-00009.tar: named by no manifest and no done record",
        "left fetch/notes.txt: named by nobody, but not of our kind or too young",
        "2 files, 150 bytes",
    ]


def test_a_dry_run_says_that_it_removed_nothing() -> None:
    told = tell(FOUND, dry_run=True)
    assert told.count("would remove ") == 2 and "\nremoved " not in f"\n{told}"
    assert values(FOUND, dry_run=True)["dry_run"] is True


def test_a_tidy_run_is_told_in_one_line() -> None:
    assert tell(Collection((), ()), dry_run=False) == "0 files, 0 bytes"


def test_the_values_name_every_file_with_its_reason_and_size() -> None:
    said = json.loads(json.dumps(values(FOUND, dry_run=False)))
    assert said["removed"][1] == {
        "file": "pack/jpg-00009.tar", "why": "named by no manifest and no done record", "num_bytes": 30,
    }  # fmt: skip
    assert (said["dry_run"], said["left"]) == (False, ["fetch/notes.txt"])
