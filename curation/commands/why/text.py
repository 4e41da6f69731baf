"""A story in words, for a terminal."""

from collections.abc import Iterator

from curation.commands.why.story import CriterionPart, StagePart, Story
from curation.dataset.stages import STAGES
from curation.measure.meanings import meaning_of
from curation.printable import joined

NUM_DIGITS_SHOWN = 12


def tell(story: Story) -> str:
    """Return the story as text, the shortest answer first."""
    return joined(_lines(story))


def _lines(story: Story) -> Iterator[str]:
    yield f"{story.uid}  {story.url or '(no URL)'}"
    yield f"  {_ending(story)}"
    for part in story.stages:
        yield from ("", *_stage_lines(part))
    if story.criteria:
        yield from ("", "keep ranges, as the recipe declares them")
        for criterion in story.criteria:
            yield f"  {_criterion(criterion)}"
    for name, why in story.unmeasured.items():
        yield f"  filter {name} did not measure; {why}"
    if story.captions or story.caption_binding:
        yield from ("", "captions")
        for caption in story.captions:
            box = "" if caption["box"] is None else f", of the face in {list(caption['box'])}"
            yield f"  {caption['text']!r} from {caption['source']}{box}"
        if story.caption_binding:
            binding = story.caption_binding
            face = f", to the face in {binding['face_box']}" if binding["binding"] == "bound" else ""
            yield f"  packed with {binding['caption']!r} from {binding['source']}: {binding['binding']}{face}"
    if story.weights:
        yield from ("", "weights that judged")
        for name, sha256 in sorted(story.weights.items()):
            yield f"  {name}  sha256 {sha256}"


def _ending(story: Story) -> str:
    last = next((part for part in reversed(story.stages) if not STAGES[part.stage].is_aside), story.stages[-1])
    if last.kept:
        return f"kept by every stage so far; lies in {last.file}" + _at(last)
    meaning = meaning_of(last.rejected_by or "", last.reason or "")
    return f"rejected in {last.stage} by {last.rejected_by}: {last.reason}" + (f" ({meaning})" if meaning else "")


def _at(part: StagePart) -> str:
    return "" if part.offset is None else f" at byte {part.offset}"


def _stage_lines(part: StagePart) -> Iterator[str]:
    verdict = "kept" if part.kept else f"rejected by {part.rejected_by}: {part.reason}"
    where = part.stage if part.folder == part.stage else f"{part.stage} in {part.folder}"
    yield f"{where}, shard {part.shard or '(none)'}: {verdict}"
    if part.file is not None:
        yield f"  lies in {part.file}{_at(part)}"
    for name, value in part.facts.items():
        if name not in ("uid", "url"):
            yield f"  {name} {value}"
    if part.recipe_name is not None:
        digest = str(part.recipe_digest)[:NUM_DIGITS_SHOWN]
        yield f"  recipe {part.recipe_name} ({digest}), version {part.code_version}"


def _criterion(part: CriterionPart) -> str:
    low = "" if part.min is None else f"{part.min:g} <= "
    high = "" if part.max is None else f" <= {part.max:g}"
    unknown = "not settled" if part.proven_by is None else "not measured"
    measured = unknown if part.value is None else f"{part.value:.6g}"
    measured += "" if part.proven_by is None else f", proven by {part.proven_by}"
    line = f"{part.filter}: {low}{part.score}{high}: {measured}, {part.result}"
    if part.decided:
        line += "   <- this decided"
    return line
