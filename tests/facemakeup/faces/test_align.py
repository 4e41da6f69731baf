import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from facemakeup.config import Recogniser
from facemakeup.faces.align import (
    ARCFACE_TEMPLATE,
    CLIP_CROPS,
    CLIP_MEAN,
    CLIP_STD,
    align,
    clip_pixels,
    similarity,
    unit,
)
from facemakeup.faces.recognisers import DLIB, MOBILEFACENET, RecogniserError, load_recogniser
from facemakeup.faults import SampleFaultError
from filters.detectors.centerface import CenterFace
from filters.weights import MissingWeightsError, catalogue
from tests.facemakeup.tars import add_tiny_recogniser
from tests.pictures import scene

MOBILEFACENET_SHA256 = next(entry.sha256 for entry in catalogue() if entry.name == MOBILEFACENET)
REAL = Recogniser(name=MOBILEFACENET, width=128, sha256=MOBILEFACENET_SHA256)
needs_weights = pytest.mark.skipif("FACECAPTIONHQ_MODELS" not in os.environ, reason="FACECAPTIONHQ_MODELS is unset")


@given(st.floats(-3.1, 3.1), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_a_similarity_is_found_again_and_agrees_with_scikit_image(
    angle: float, scale: float, x: float, y: float
) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = scale * ARCFACE_TEMPLATE @ turn.T + [x, y]
    matrix = similarity(moved, ARCFACE_TEMPLATE)
    assert np.allclose(moved @ matrix[:, :2].T + matrix[:, 2], ARCFACE_TEMPLATE, atol=1e-6)
    noisy = moved + np.random.default_rng(0).normal(0, scale, (5, 2))
    other = SimilarityTransform.from_estimate(noisy, ARCFACE_TEMPLATE)
    assert np.allclose(similarity(noisy, ARCFACE_TEMPLATE), other.params[:2], atol=1e-6)


@pytest.mark.parametrize("landmarks", [np.full((5, 2), 7.0), np.full((5, 2), np.nan)])
def test_landmarks_that_fit_no_face_are_a_reason(landmarks: np.ndarray) -> None:
    with pytest.raises(SampleFaultError, match="degenerate_face"):
        similarity(landmarks, ARCFACE_TEMPLATE)


def test_a_face_that_lies_as_the_template_is_cut_out_as_it_is() -> None:
    rgb = scene(3, 200, 180)
    assert np.array_equal(align(rgb, ARCFACE_TEMPLATE + np.array([20, 30]), 112), rgb[30:142, 20:132])


@pytest.mark.parametrize(
    ("crop", "side", "left_eye"),
    [
        ("arcface-512", 512, (38.2946 * 512 / 112, 51.6963 * 512 / 112)),
        ("ip-adapter-224", 224, (38.2946 * 2, 51.6963 * 2)),
        ("insightface-512", 512, (38.2946 * 4 + 32, 51.6963 * 4)),
    ],
)
def test_clip_pixels_are_what_the_clip_processor_makes_of_the_face_aligned_as_each_convention_has_it(
    crop: str, side: int, left_eye: tuple[float, float]
) -> None:
    from transformers import CLIPImageProcessorPil

    assert CLIP_CROPS[crop].template_52[0] == pytest.approx(left_eye)
    rgb, landmarks = scene(4, 300, 280), ARCFACE_TEMPLATE * 2 + [30, 20]
    processor = CLIPImageProcessorPil(image_mean=list(CLIP_MEAN), image_std=list(CLIP_STD))
    aligned = align(rgb, landmarks, side, CLIP_CROPS[crop].template_52 * (112 / side))
    expected = processor(aligned, return_tensors="np")["pixel_values"][0]
    assert np.abs(clip_pixels(rgb, landmarks, 224, crop) - expected).max() < 1e-5


def test_a_vector_without_direction_is_a_reason_not_a_zero() -> None:
    assert np.linalg.norm(unit(np.array([3.0, 4.0]))) == pytest.approx(1)
    for nothing in (np.zeros(4), np.array([np.nan, 1.0])):
        with pytest.raises(SampleFaultError, match="no_embedding"):
            unit(nothing)


@needs_weights
def test_the_real_recogniser_tells_the_same_face_from_another() -> None:
    import skimage

    from filters.weights import find_weights

    recogniser = load_recogniser(REAL, accept_noncommercial=True)
    detector = CenterFace(find_weights("centerface").path, side=640, confidence_floor=0.3, max_iou=0.5, device="cpu")

    def embedded(rgb: np.ndarray) -> np.ndarray:
        face = detector.detect(rgb)[0]
        return recogniser.embed(rgb, np.array(face.landmarks).reshape(5, 2))

    astronaut, camera = skimage.data.astronaut(), np.stack([skimage.data.camera()] * 3, axis=-1)
    face = embedded(astronaut)
    assert face.shape == (128,) and np.linalg.norm(face) == pytest.approx(1, abs=1e-6)
    smaller = np.ascontiguousarray(astronaut[::2, ::2])
    assert face @ embedded(np.ascontiguousarray(astronaut[:, ::-1])) > 0.8
    assert face @ embedded(smaller) > 0.6
    assert abs(face @ embedded(camera)) < 0.35


@needs_weights
@pytest.mark.parametrize(
    ("change", "message"), [({"sha256": "0" * 64}, "sha256 is"), ({"width": 512}, "width is 128, but 512 is expected")]
)
def test_a_recogniser_of_another_hash_or_width_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecogniserError, match=message):
        load_recogniser(REAL.model_copy(update=change), accept_noncommercial=True)


def test_dlib_recognises_where_it_is_installed_and_says_what_to_type_where_it_is_not() -> None:
    import importlib.util

    import skimage

    from filters.weights import find_weights

    sha256 = next(entry.sha256 for entry in catalogue() if entry.name == DLIB)
    identity = Recogniser(name=DLIB, width=128, sha256=sha256)
    if importlib.util.find_spec("face_recognition_models") is None:
        with pytest.raises(MissingWeightsError, match=r"pip install --no-deps face_recognition_models==0\.3\.0"):
            load_recogniser(identity, accept_noncommercial=False)
        return
    if importlib.util.find_spec("dlib") is None:
        with pytest.raises(RecogniserError, match="pip install --no-deps dlib-bin"):
            load_recogniser(identity, accept_noncommercial=False)
        return
    recogniser = load_recogniser(identity, accept_noncommercial=False)
    detector = CenterFace(find_weights("centerface").path, side=640, confidence_floor=0.3, max_iou=0.5, device="cpu")
    astronaut = skimage.data.astronaut()
    pictures = (astronaut, np.ascontiguousarray(astronaut[:, ::-1]), np.stack([skimage.data.camera()] * 3, axis=-1))
    vectors = [recogniser.embed(p, np.array(detector.detect(p)[0].landmarks).reshape(5, 2)) for p in pictures]
    assert vectors[0] @ vectors[1] > 0.95
    assert vectors[0] @ vectors[2] < 0.9


def test_terms_are_shown_until_they_are_accepted_and_a_wrong_name_lists_the_choices() -> None:
    with pytest.raises(RecogniserError, match=r"non-commercial.*--accept-noncommercial.*accept_noncommercial = true"):
        load_recogniser(REAL, accept_noncommercial=False)
    with pytest.raises(RecogniserError, match=f"choose one of {MOBILEFACENET}"):
        load_recogniser(REAL.model_copy(update={"name": "buffalo"}), accept_noncommercial=True)


def test_weights_that_a_user_confirms_are_used_and_others_under_that_name_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = Recogniser(name="insightface_512d", width=512, sha256="0" * 64)
    with pytest.raises(MissingWeightsError, match="models add FILE --name insightface_512d"):
        load_recogniser(first, accept_noncommercial=True)
    mine = add_tiny_recogniser(tmp_path, width=512)
    vector = load_recogniser(mine, accept_noncommercial=True).embed(scene(5, 150, 150), ARCFACE_TEMPLATE)
    assert vector.shape == (512,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    add_tiny_recogniser(tmp_path, width=512, seed=1)
    with pytest.raises(RecogniserError, match="sha256"):
        load_recogniser(mine, accept_noncommercial=True)
