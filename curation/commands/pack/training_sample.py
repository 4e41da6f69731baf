"""The `.json` member of a packed sample: one fixed schema without nulls, so that every loader infers the same types."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from curation.commands.caption.beside import NewCaption
from curation.commands.caption.rows import PROVENANCE
from curation.commands.pack.caption_choice import by_quality, preferred
from curation.dataset.captions import MAX_COORDINATE, Binding, Caption, bind, captions_of, clean_caption
from curation.dataset.rights import UNKNOWN, rights_of
from curation.dataset.sample import Sample
from curation.errors import ShardError
from curation.images.containers import read_container
from curation.measure.arrow import from_struct
from curation.recipe.filter_plan import FilterPlan
from curation.recipe.recipe import Recipe

MODEL = "model"
"""Source of a caption that `caption` brought."""


def has_face_fields(recipe: Recipe) -> bool:
    """Whether every kept sample certainly has a detected face, so that the schema can promise one."""
    plan = _faces_plan(recipe)
    keep = plan.keep.get("num_faces") if plan is not None else None
    return keep is not None and "faces" in recipe.certain and keep.min is not None and keep.min >= 1


def training_sample(  # long: the fields of the json member, one by one
    sample: Sample,
    measured: Mapping[str, Any],
    image_bytes: bytes,
    recipe: Recipe,
    repeated: Collection[int] = (),
    told: NewCaption | None = None,
) -> dict[str, Any]:
    """Return the fields of the `.json` member.

    `measured` is the sample's row of the curate ledger, `repeated` the places of captions that too many share, `told`
    its new caption. Face
    fields stand only where `has_face_fields`: box [x1, y1, x2, y2] and landmarks [x, y] * 5 in pixels of the decoded
    picture, of the face that the caption is bound to, else of the largest confident one. What may be missing is inside
    `captions_json`, a JSON text.

    Raises:
        ShardError: the ledger lacks what the recipe promises.
    """
    settings = recipe.file.pack
    faces = _confident_faces(measured, recipe)
    size = (int(measured["width"]), int(measured["height"]))
    crawled = _crawled_size(sample.metadata, size)
    captions, rights = captions_of(sample.caption, sample.metadata), rights_of(sample.metadata)
    orientation = read_container(sample.image_bytes, measured["format"]).orientation
    face_boxes = [face.box for face in faces]
    chosen = captions
    if recipe.file.captions is not None:
        chosen = by_quality(captions, recipe.file.captions, settings.max_caption_characters, repeated)
    is_ranked = recipe.file.captions is not None
    binding = bind(chosen, face_boxes, size, crawled, settings.min_caption_box_iou, orientation, is_ranked)
    new = None if told is None else Caption(told.text, MODEL)
    binding = preferred(binding, captions, new, recipe, repeated)
    captions += () if new is None else (new,)
    if binding is None:
        raise ShardError(f"{sample.key}: the ledger counts captions but none is there")
    fields: dict[str, Any] = {
        "uid": measured["uid"],
        "url": measured["url"] or f"urn:sha256:{measured['sha256']}",
        "caption": clean_caption(binding.caption.text, settings.max_caption_characters),
        "caption_source": binding.caption.source,
        "caption_binding": binding.status,
        "captions": [clean_caption(caption.text, settings.max_caption_characters) for caption in captions],
        **_provenance(binding, told, recipe),
        "captions_json": _captions_json(captions, binding, crawled, orientation, told),
        "license": rights.license or UNKNOWN,
        "author": rights.author or UNKNOWN,
        "rights_json": rights.as_json or "{}",
        "format": measured["format"],
        "width": size[0],
        "height": size[1],
        "num_bytes": len(image_bytes),
        "sha256": hashlib.sha256(image_bytes).hexdigest(),
        "source_sha256": measured["sha256"],
        "scores": _scores(measured, recipe),
    }
    if has_face_fields(recipe):
        face = faces[binding.face] if binding.face is not None else max(faces, key=lambda face: face.area_px)
        fields["face_box"] = [float(x) for x in face.box]
        fields["face_landmarks"] = [float(x) for x in face.landmarks]
        fields["face_confidence"] = float(face.confidence)
    return fields


def _provenance(binding: Binding, told: NewCaption | None, recipe: Recipe) -> dict[str, str]:
    """Return who wrote the caption, when and asked what: empty texts where it came with the picture."""
    if recipe.file.caption is None:
        return {}
    is_new = told is not None and binding.caption.source == MODEL
    return {field.name: told.provenance[field.name] if told is not None and is_new else "" for field in PROVENANCE}


def _faces_plan(recipe: Recipe) -> FilterPlan | None:
    return next((plan for plan in recipe.filters if plan.name == "faces"), None)


def _confident_faces(measured: Mapping[str, Any], recipe: Recipe) -> list[Any]:
    plan = _faces_plan(recipe)
    if plan is None or measured["faces_evidence"] is None:
        return []
    evidence = from_struct(plan.module.EVIDENCE, measured["faces_evidence"])
    return [face for face in evidence.faces if face.confidence >= plan.score.model_dump()["confidence"]]


def _crawled_size(metadata: Mapping[str, Any], size: tuple[int, int]) -> tuple[int, int]:
    width, height = metadata.get("crawled_width"), metadata.get("crawled_height")
    if type(width) is int and type(height) is int and 0 < width < MAX_COORDINATE and 0 < height < MAX_COORDINATE:
        return width, height
    return size


def _captions_json(
    captions: tuple[Caption, ...],
    binding: Binding,
    crawled: tuple[int, int],
    orientation: int,
    new: NewCaption | None = None,
) -> str:
    listed = [
        {
            "text": caption.text,
            "source": caption.source,
            "box": None if caption.box is None else list(caption.box),
            "iou": binding.iou if caption is binding.caption and binding.status == "bound" else None,
            **(new.provenance if new is not None and caption.source == MODEL else {}),
        }
        for caption in captions
    ]
    told = {
        "crawled_size": list(crawled), "orientation": orientation, "box_pixels": binding.pixels, "captions": listed
    }  # fmt: skip
    return json.dumps(told, sort_keys=True, allow_nan=False)


def score_fields(recipe: Recipe) -> tuple[dict[str, list[str]], list[str]]:
    """Return the scores that every kept sample certainly has: by filter or screen, and the joint ones.

    A filter that a screen may spare has none to promise; what its screen measured stands in its place.
    """
    scores = {plan.name: [*plan.module.SCORES] for plan in recipe.measurers if plan.name in recipe.certain}
    joint = [
        name for plan in recipe.filters for name, score in plan.joint.items() if recipe.certain.issuperset(score.inputs)
    ]
    return scores, joint


def _scores(measured: Mapping[str, Any], recipe: Recipe) -> dict[str, dict[str, float]]:
    own, joint = score_fields(recipe)
    scores: dict[str, dict[str, float]] = {name: measured[f"{name}_scores"] for name in own}
    if joint:
        scores["joint"] = {name: measured["joint_scores"][name] for name in joint}
    return scores
