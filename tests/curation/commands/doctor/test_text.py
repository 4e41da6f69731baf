from curation.commands.doctor.examine import Finding
from curation.commands.doctor.text import tell, tell_readiness


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


def test_it_is_told_which_recipe_was_checked_which_are_ready_and_what_brings_the_rest() -> None:
    lacking = {"demo": (), "facecaptionhq-4m": ("lbpcascade_animeface", "yolov5n-0.5-face")}
    assert tell_readiness("facecaptionhq-4m", lacking, was_named=False).splitlines() == [
        "checked: the recipe facecaptionhq-4m, which commands take unless --recipe names another",
        "ready: demo; such as `facecaptionhq look photos/ --recipe demo`",
        "not ready: facecaptionhq-4m lacks lbpcascade_animeface, yolov5n-0.5-face",
        "to have lbpcascade_animeface: type `facecaptionhq models pull lbpcascade_animeface`",
        "to have yolov5n-0.5-face: type `facecaptionhq models pull yolov5n-0.5-face --accept`",
    ]
    assert tell_readiness("mine.toml", {"demo": ()}, was_named=True).startswith("checked: the recipe mine.toml\n")
