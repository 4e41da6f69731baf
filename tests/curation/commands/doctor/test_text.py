from curation.commands.doctor.examine import Finding
from curation.commands.doctor.text import tell


def test_only_what_is_wrong_is_told_with_how_to_mend_it() -> None:
    findings = [
        Finding("python", True, "3.11", "use CPython 3.11"),
        Finding("weights craft", False, "missing", "type `facecaptionhq models pull craft`", exit_code=6),
        Finding("memory", True, "8.0 GiB for 2 cores", "use --workers 4"),
    ]
    assert tell(findings).splitlines() == [
        "ok   python: 3.11",
        "BAD  weights craft: missing",
        "     mend: type `facecaptionhq models pull craft`",
        "ok   memory: 8.0 GiB for 2 cores",
    ]
