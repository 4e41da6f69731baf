"""Who a face is, as a unit vector: recognisers behind one interface, each known by its name, width and sha256.

Two recognisers' vectors have nothing in common even where their widths agree, so a model refuses any but its own.
"""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from facemakeup.config import Recogniser
from facemakeup.faces.align import ARCFACE_SIDE, Floats, Landmarks, align, unit
from filters.base import FaceCaptionError, RgbImage, WeightsFile
from filters.loading import onnx_session
from filters.plugins import RECOGNISERS, Plugin, PluginError, names, plugin
from filters.weights import MissingWeightsError, catalogue, find_weights

log = logging.getLogger(__name__)

MOBILEFACENET = "mobilefacenet_insightface_128d"
DLIB = "dlib_face_recognition_resnet_v1"
INSIGHTFACE = "insightface_512d"
ANTELOPEV2 = "antelopev2_512d"
"""What InstantID and PuLID take; its vectors have nothing in common with those of `INSIGHTFACE`."""
UNCATALOGUED: Mapping[str, str] = MappingProxyType(
    {INSIGHTFACE: "w600k_r50.onnx of insightface's buffalo_l", ANTELOPEV2: "glintr100.onnx of insightface's antelopev2"}
)
"""Name -> what its makers offer, which no catalogue may hand on."""
NONCOMMERCIAL_TERMS = (
    "models of the insightface family are for non-commercial research only; whatever is trained with their vectors "
    "inherits that (deepinsight/insightface#2486)"
)
DLIB_SIDE = 150
DLIB_TEMPLATE = np.array([[47.73, 47.28], [100.27, 46.98], [74.17, 77.16], [52.58, 107.92], [96.09, 107.68]])
"""Where our landmarks lie in dlib's own chip of 150 pixels: the template of ArcFace, moved so that the eyes meet those
of dlib's mean face. dlib aligns by other landmarks, so vectors differ a little from those that its own tools give."""


class RecogniserError(FaceCaptionError):
    """A recogniser is unknown, not the expected one, cannot be used here, or its terms are not accepted."""

    exit_code = 6


class FaceRecogniser(Protocol):
    """Turns a face into a vector.

    An installed distribution brings one by an entry point `facecaptionhq.recognisers` that names what, called with a
    device ("cpu" or "cuda:N"), returns it; an attribute `TERMS` of what it names is text that users have to accept.
    """

    identity: Recogniser
    """Name, width and sha256 of the weights."""

    def embed(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return a unit vector, float32 (width,).

        Raises:
            SampleFaultError: the landmarks fit no face, or the network gives no direction.
        """
        ...


class ArcFaceOnnx:
    """An ONNX network of the ArcFace family: 112 x 112 RGB, aligned to the template."""

    def __init__(self, weights: WeightsFile, normalises: bool, device: str) -> None:
        """Load it; `normalises` says that the network takes pixels 0..255, else it takes -1..1."""
        self._session = onnx_session(weights.path, device)
        self._input = self._session.get_inputs()[0].name
        self._normalises = normalises
        width = self._run(np.zeros((ARCFACE_SIDE, ARCFACE_SIDE, 3), np.uint8)).shape[0]
        self.identity = Recogniser(name=weights.name, width=width, sha256=weights.sha256)

    def embed(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return a unit vector; see `FaceRecogniser`."""
        return unit(self.features(rgb, landmarks_52))

    def features(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return the vector at the length that the network gives it, as some methods are conditioned on it."""
        return self._run(align(rgb, landmarks_52, ARCFACE_SIDE))

    def _run(self, aligned: RgbImage) -> Floats:
        pixels = aligned.astype(np.float32)
        pixels = pixels if self._normalises else (pixels - 127.5) / 127.5
        (vectors,) = self._session.run(None, {self._input: pixels.transpose(2, 0, 1)[None]})
        return np.asarray(vectors[0], dtype=np.float32)


class DlibResNet:
    """dlib's ResNet, 128 numbers; needs the packages dlib (or dlib-bin) and face_recognition_models."""

    def __init__(self, weights: WeightsFile) -> None:
        """Load it.

        Raises:
            RecogniserError: dlib is not installed.
        """
        try:
            import dlib  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise RecogniserError(f"recogniser {DLIB!r} needs dlib: type `pip install --no-deps dlib-bin`") from error
        self._network = dlib.face_recognition_model_v1(weights.path)
        self.identity = Recogniser(name=weights.name, width=128, sha256=weights.sha256)

    def embed(self, rgb: RgbImage, landmarks_52: Landmarks) -> Floats:
        """Return a unit vector; see `FaceRecogniser`."""
        chip = align(rgb, landmarks_52, DLIB_SIDE, DLIB_TEMPLATE * (ARCFACE_SIDE / DLIB_SIDE))
        return unit(np.asarray(self._network.compute_face_descriptor(chip), dtype=np.float32))


def _mobilefacenet(weights: WeightsFile, device: str) -> FaceRecogniser:
    return ArcFaceOnnx(weights, normalises=True, device=device)


def _insightface(weights: WeightsFile, device: str) -> FaceRecogniser:
    return ArcFaceOnnx(weights, normalises=False, device=device)


def _dlib(weights: WeightsFile, device: str) -> FaceRecogniser:
    return DlibResNet(weights)


BUILDERS: Mapping[str, Callable[[WeightsFile, str], FaceRecogniser]] = MappingProxyType(
    {MOBILEFACENET: _mobilefacenet, DLIB: _dlib, INSIGHTFACE: _insightface, ANTELOPEV2: _insightface}
)
"""Name of the recogniser, which is the name of its weights -> what builds it."""
NONCOMMERCIAL = frozenset({MOBILEFACENET, INSIGHTFACE, ANTELOPEV2})


def load_recogniser(expected: Recogniser, accept_noncommercial: bool, device: str = "cpu") -> FaceRecogniser:
    """Return the recogniser that a configuration or a checkpoint names, and no other.

    Raises:
        RecogniserError: its name is unknown, its terms are not accepted, or the network is of another width or sha256.
        WeightsError: its weights are not here.
        PluginError: a distribution brings it, and it cannot be loaded.
    """
    if (brought := _brought(expected.name)) is not None:
        require_same(expected, expected.model_copy(update={"brought_by": brought.source}), brought.told)
        recogniser, where = _built_by(brought, accept_noncommercial, device), brought.told
    elif expected.brought_by is not None and expected.name not in BUILDERS:
        raise RecogniserError(
            f"recogniser {expected.name!r} comes with {expected.brought_by}, which is not installed here: "
            f"type `pip install {'=='.join(expected.brought_by.rsplit(maxsplit=1))}`"
        )
    else:
        weights = find_recogniser(expected.name, accept_noncommercial)
        require_same(expected, expected.model_copy(update={"sha256": weights.sha256}), weights.path)
        recogniser, where = BUILDERS[expected.name](weights, device), weights.path
    require_same(expected, recogniser.identity, where)
    return recogniser


def build_recogniser(name: str, accept_noncommercial: bool, device: str = "cpu") -> FaceRecogniser:
    """Return the recogniser of a name, whatever its weights are.

    Raises:
        RecogniserError: its name is unknown, or its terms are not accepted.
        WeightsError: its weights are not here.
        PluginError: a distribution brings it, and it cannot be loaded.
    """
    if (brought := _brought(name)) is not None:
        return _built_by(brought, accept_noncommercial, device)
    return BUILDERS[name](find_recogniser(name, accept_noncommercial), device)


def recogniser_names() -> tuple[str, ...]:
    """Return the names of all recognisers: those of ours, then those that installed distributions bring."""
    return names(RECOGNISERS, BUILDERS)


def require_usable(name: str, accept_noncommercial: bool) -> None:
    """Refuse early what `load_recogniser` would refuse: an unknown name, terms that are not accepted, missing weights.

    Raises:
        RecogniserError, WeightsError, PluginError: see `load_recogniser`.
    """
    if (brought := _brought(name)) is not None:
        _require_accepted(name, _terms_of(brought), accept_noncommercial)
    else:
        find_recogniser(name, accept_noncommercial)


def terms_of(name: str) -> str | None:
    """Return the terms that users of a recogniser have to accept; None where there are none, or nobody brings it."""
    if name in NONCOMMERCIAL:
        return NONCOMMERCIAL_TERMS
    try:
        return None if (brought := _brought(name)) is None else _terms_of(brought)
    except PluginError:
        return None


def _brought(name: str) -> Plugin | None:
    return plugin(RECOGNISERS, name, BUILDERS)


def _built_by(brought: Plugin, accept_noncommercial: bool, device: str) -> FaceRecogniser:
    """Return a recogniser that a distribution brings, its identity with who that is."""
    _require_accepted(brought.name, _terms_of(brought), accept_noncommercial)
    recogniser: FaceRecogniser = brought.build(device)
    identity = getattr(recogniser, "identity", None)
    if not isinstance(identity, Recogniser) or identity.name != brought.name:
        raise brought.fault(f"builds no recogniser of the name {brought.name!r}: its `identity` is {identity!r}")
    try:
        recogniser.identity = identity.model_copy(update={"brought_by": brought.source})
    except (AttributeError, TypeError) as error:  # a frozen dataclass, a property, slots
        raise brought.fault(f"builds a recogniser whose `identity` cannot be set: {error}") from error
    return recogniser


def _terms_of(brought: Plugin) -> str | None:
    terms: str | None = getattr(brought.load(), "TERMS", None)
    return terms


def _require_accepted(name: str, terms: str | None, accept_noncommercial: bool) -> None:
    if terms is None:
        return
    if not accept_noncommercial:
        raise RecogniserError(
            f"recogniser {name!r}: {terms}. To accept these terms, add `--accept-noncommercial` to "
            f"`generate`, or, for `cache` and `train`, `accept_noncommercial = true` to [faces] of the configuration"
        )
    log.warning("recogniser %s: %s", name, terms)


def find_recogniser(name: str, accept_noncommercial: bool) -> WeightsFile:
    """Return the verified weights of a recogniser of ours.

    Raises:
        RecogniserError: its name is unknown, or its terms are not accepted.
        WeightsError: its weights are not here.
    """
    if name not in BUILDERS:
        raise RecogniserError(f"recogniser {name!r} is unknown; choose one of {', '.join(BUILDERS)}")
    _require_accepted(name, NONCOMMERCIAL_TERMS if name in NONCOMMERCIAL else None, accept_noncommercial)
    if name in UNCATALOGUED and name not in {entry.name for entry in catalogue()}:
        try:
            return find_weights(name)
        except FaceCaptionError as error:
            raise MissingWeightsError(
                f"no weights are known by the name {name!r}: get {UNCATALOGUED[name]} from its "
                f"makers, then type `facecaptionhq models add FILE --name {name} --sha256 SHA256` ({error})"
            ) from error
    return find_weights(name)


def require_same(expected: Recogniser, found: Recogniser, where: str) -> None:
    """Refuse vectors of another recogniser.

    Raises:
        RecogniserError: name, width or sha256 differ.
    """
    for field in ("name", "brought_by", "width", "sha256"):
        wanted, got = getattr(expected, field), getattr(found, field)
        if wanted != got:
            raise RecogniserError(
                f"{where}: recogniser {field} is {got!r}, but {wanted!r} is expected; vectors of two recognisers have "
                f"nothing in common: use the recogniser that the model was trained with, or train anew"
            )
