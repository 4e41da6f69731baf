"""What the labelled photos teach the heads of `drawn`; how heads are taught stands in `curation.learning.heads`."""

from curation.learning.heads import Lesson

POSITIVE = {"drawn": "anime", "nonhuman": "noface"}
"""Head -> the label that it is to tell from `PEOPLE`."""
PEOPLE = {"single": 1.0, "group": 1.0, "bw": 0.25, "sepia": 0.25}
"""Label -> weight of its photos. Toned prints are photographs without colour, most in dim light: where they taught
nothing, twice as many portraits of dark skin in dim light score as drawn."""
NUM_DIRECTIONS = {"drawn": 8, "nonhuman": 0}
LESSONS = {name: Lesson(label, PEOPLE, NUM_DIRECTIONS[name]) for name, label in POSITIVE.items()}
VARIED_WEIGHT = 0.3
"""Of a variation beside the photo itself, and beside its copy in a mask: more, and fewer drawings are told."""
