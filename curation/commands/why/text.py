"""A story in words, for a terminal."""

from collections.abc import Iterator

from curation.commands.why.story import CriterionPart, StagePart, Story
from curation.dataset.stages import STAGES
from curation.measure.meanings import meaning_of
from curation.printable import joined

NUM_DIGITS_SHOWN = 12


def tell(story: Story, *, is_verbose: bool = False) -> str:
    """Return the story as text, the shortest answer first; verbose with all weights of the run, digests whole."""
    return joined(_lines(story, is_verbose=is_verbose))


def _lines(story: Story, *, is_verbose: bool) -> Iterator[str]:
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
        yield from _captions(story)
    yield from _weights(story, is_verbose=is_verbose)


def _captions(story: Story) -> Iterator[str]:
    for caption in story.captions:
        box = "" if caption["box"] is None else f", of the face in {list(caption['box'])}"
        yield from _quoted("  ", caption["text"], f" from {caption['source']}{box}")
    if story.caption_binding:
        binding = story.caption_binding
        face = f", to the face in {binding['face_box']}" if binding["binding"] == "bound" else ""
        after = f" from {binding['source']}: {binding['binding']}{face}"
        yield from _quoted("  packed with ", binding["caption"], after)


def _quoted(before: str, text: str | None, after: str) -> Iterator[str]:
    """Yield a text between quotes in its own lines, each under the one before; blanks at its end are not shown."""
    first, *others = (text or "").rstrip().splitlines() or [""]
    lines = [f'{before}"{first}', *(f"{' ' * (len(before) + 1)}{line}" for line in others)]
    yield from (*lines[:-1], f'{lines[-1]}"{after}')


def _weights(story: Story, *, is_verbose: bool) -> Iterator[str]:
    names = sorted(story.weights) if is_verbose else story.weights_used
    if names:
        yield from ("", "weights of the run" if is_verbose else "weights that measured it (-v: all of the run)")
    for name in names:
        sha256 = story.weights.get(name, "")
        yield f"  {name}  sha256 {sha256 if is_verbose else sha256[:NUM_DIGITS_SHOWN]}"


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
