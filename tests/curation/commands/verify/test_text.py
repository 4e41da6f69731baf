from curation.commands.verify.faults import Fault, Note, Verification
from curation.commands.verify.text import tell

NOTE = Note("report", "not derived again: it lies in an object store")


def test_a_sound_run_is_told_in_one_line_behind_its_notes() -> None:
    assert tell(Verification("run", 12, 58, 378_749, (), ())) == (
        "12 shards, 58 files, 378749 bytes: all is as it should be"
    )
    assert tell(Verification("run", 1, 2, 3, (), (NOTE,))).splitlines() == [
        "note  report: not derived again: it lies in an object store",
        "1 shard, 2 files, 3 bytes: all is as it should be",
    ]


def test_a_run_with_an_unfinished_stage_is_not_told_to_be_whole() -> None:
    (told,) = tell(Verification("run", 1, 4, 99, (), (), ("curate",))).splitlines()
    assert "all is as it should be" not in told
    assert told.endswith("NOT FINISHED: curate; `facecaptionhq status run` says how to go on")


def test_faults_come_first_with_what_would_be_right_and_are_counted_last() -> None:
    torn = Fault("pack/jpg-00000.tar", "sha256 00", "sha256 ff", shard="jpg-00000")
    alone = Fault("pack/ledger.parquet", "not kept in 00000", "only what curate kept", uid="6363d134")
    assert tell(Verification("run", 1, 4, 99, (torn, alone), (NOTE,))).splitlines() == [
        "FAULT pack/jpg-00000.tar: sha256 00; right would be: sha256 ff",
        "FAULT pack/ledger.parquet (6363d134): not kept in 00000; right would be: only what curate kept",
        "note  report: not derived again: it lies in an object store",
        "1 shard, 4 files, 99 bytes: 2 faults",
    ]
