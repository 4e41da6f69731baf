"""What a screen says against the filter that it spares, photo by photo and on sources that nobody looked at."""

from pathlib import Path
from typing import Any

from benchmarks.verdicts.contradictions import Compared, compared, figures
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled
from curation.recipe.judge import Verdict
from curation.recipe.recipe import recipe_of
from tests.pictures import encode, solid

KEPT, GONE = Verdict(), Verdict("text", "text_prominence_high")


def of_colour(proven: float) -> dict[str, Any]:
    """Return a recipe whose screen proves as much of every picture that is not grey."""
    proof = {"when": {"mean_channel_std": {"min": 1.0}}, "then": {"mean_channel_std": {"min": proven}}}
    screen = {"filter": "colour", "measure": {"statistics_of": "blocks"}, "proofs": [proof]}
    stanza = {"name": "colour", "keep": {"mean_channel_std": {"min": 60.0}}, "screens": [screen]}
    return {"schema_version": 1, "name": "colour-alone", "filters": [stanza]}


def test_a_screen_that_keeps_what_its_filter_rejects_is_against_it_and_one_that_proves_less_leaves_it_open(
    tmp_path: Path,
) -> None:
    file = tmp_path / "warm.png"
    file.write_bytes(encode(solid((130, 90, 60)), "PNG"))
    photo = Labelled(file, "single", (), "somewhere", "cd" * 32)
    found = {}
    for proven in (70.0, 50.0):
        recipe = recipe_of(of_colour(proven), "here")
        found[proven] = compared(Judge(recipe, tmp_path / "kept"), photo, recipe.filters[0])
    assert found[70.0].is_against and found[70.0].screens == KEPT and not found[70.0].whole.kept
    assert found[50.0].screens is None and not found[50.0].is_against


def test_photos_of_sources_that_hold_nothing_the_bounds_were_looked_at_on_are_told_apart() -> None:
    def one(number: int, label: str, source: str, whole: Verdict, screens: Verdict | None) -> Compared:
        return Compared(Labelled(Path(f"{number}.jpg"), label, (), source, f"{number:064x}"), whole, screens, 1)

    seen = [
        one(0, "single", "a", KEPT, KEPT),
        one(1, "anime", "a", GONE, KEPT),
        one(2, "anime", "b", GONE, KEPT),
        one(3, "anime", "b", KEPT, GONE),
        one(4, "noface", "c", GONE, None),
        one(5, "noface", "c", GONE, GONE),
    ]
    found = figures(seen, [one.photo for one in seen])
    unseen = found["sources_not_in_sight"]
    assert [unseen[name] for name in ("photos", "settled", "against", "kept_against")] == [4, 3, 2, 1]
    assert [unseen[name] for name in ("sources", "sources_with_one")] == [2, 1]
    assert (found["sources_in_sight"]["against"], found["all"]["settled"]) == (1, 5)
    assert [listed["file"] for listed in found["against"]] == ["1.jpg", "2.jpg", "3.jpg"]
