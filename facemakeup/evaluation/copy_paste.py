"""Copy-paste: whether a generated face repeats the reference photo, or shows its person as another photo would.

MultiID-Bench (WithAnyone, arXiv 2510.14975): with angles between identity vectors of the generated face g, the
reference photo r and another photo t of the same person, (angle(g, t) - angle(g, r)) / angle(t, r). 1 is the reference
itself, -1 the other photo, 0 as near to either. Beside it stands the nearest stranger: a face that is nearer to
somebody else than to its own reference shows nobody.
"""

from collections.abc import Sequence

import numpy as np

from facemakeup.evaluation.cosine import cosines, unit_rows
from facemakeup.evaluation.estimate import Failure, Floats, Metric, Score, Value, Variant, mean_score

COPY_PASTE = Metric("Copy-paste", -1.0, 1.0, "neither")
STRANGER_MARGIN = Metric("Margin to nearest stranger", -200.0, 200.0, "higher")
MIN_ANGLE = 1e-3
"""Radians. Below it the two real photos are one photo to the recogniser, and nothing lies between them."""
NO_OTHER_PHOTO = "no_other_photo"
SAME_PHOTO = "other_photo_is_the_reference"


def copy_paste(generated_D: Floats, other_D: Floats, reference_D: Floats) -> float | None:
    """Return the score of one picture, -1..1; None where the two real photos coincide.

    The published code gives 0 there, which is `compat`.
    """
    rows = np.stack([generated_D, generated_D, other_D]), np.stack([other_D, reference_D, reference_D])
    to_other, to_reference, between = np.arccos(cosines(*rows))
    if between < MIN_ANGLE:
        return None
    return float(np.clip((to_other - to_reference) / between, -1.0, 1.0))


def copy_paste_score(
    variant: Variant,
    identities: Sequence[str],
    generated: Sequence[Floats | Failure],
    others: Sequence[Floats | Failure],
    references: Sequence[Floats | Failure],
) -> Score:
    """Return the mean over pictures; `others` holds the person's other photo, or a failure with `NO_OTHER_PHOTO`."""
    values: list[Value] = []
    for trio in zip(generated, others, references, strict=True):
        failed = next((part for part in trio if isinstance(part, Failure)), None)
        if failed is not None:
            values.append(failed)
            continue
        value = copy_paste(*(np.asarray(part) for part in trio))
        undefined: Value = 0.0 if variant == "compat" else Failure(SAME_PHOTO)
        values.append(undefined if value is None else value)
    return mean_score(COPY_PASTE, variant, identities, values)


def stranger_margin(
    identities: Sequence[str],
    generated: Sequence[Floats | Failure],
    references: Sequence[Floats | Failure],
    gallery_ND: Floats,
    gallery_identities: Sequence[str],
) -> Score:
    """Return how much nearer, in 100 cosines, a face is to its reference than to the nearest stranger of the gallery.

    `identified` beside it is the share of faces that are nearer to their own reference than to any stranger.
    """
    gallery, names = unit_rows(gallery_ND), np.asarray(gallery_identities, dtype=object)
    values: list[Value] = []
    for who, face, reference in zip(identities, generated, references, strict=True):
        failed = next((part for part in (face, reference) if isinstance(part, Failure)), None)
        strangers = gallery[(names != who).astype(bool)]
        if failed is not None or not len(strangers):
            values.append(failed or Failure("no_strangers"))
            continue
        own, rows = np.asarray(reference), unit_rows(np.atleast_2d(np.asarray(face)))
        nearest = float((strangers @ rows[0]).max())
        values.append(100.0 * (float(cosines(rows, np.atleast_2d(own))[0]) - nearest))
    scored = [value for value in values if not isinstance(value, Failure)]
    identified = float(np.mean([value > 0 for value in scored])) if scored else None
    return mean_score(STRANGER_MARGIN, "std", identities, values, {"identified": identified})
