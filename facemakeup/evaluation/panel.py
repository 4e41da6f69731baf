"""The judges that are here, those that stand in for others, and what to type for those that are not."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from curation.errors import SafetyError, UsageError
from facemakeup.evaluation import stand_ins
from facemakeup.evaluation.estimate import Failure, Floats
from facemakeup.evaluation.generators.checkpoints import CheckpointSource, fetch_file
from facemakeup.evaluation.networks import (
    CLIP_SIZES,
    DINO_SIZES,
    VLM_SIZES,
    ClipNetwork,
    DinoNetwork,
    VisionLanguageModel,
)
from facemakeup.evaluation.seen import FoundFace, Seen
from facemakeup.evaluation.settings import JudgeSettings
from facemakeup.evaluation.traits import Traits
from facemakeup.faces.recognisers import NONCOMMERCIAL, FaceRecogniser, build_recogniser
from facemakeup.faults import SampleFaultError
from filters.base import FaceCaptionError, WeightsFile
from filters.weights import MissingWeightsError, catalogue, find_weights, sha256_of, way_to_get

Kind = Literal["real", "stand-in", "held-out"]
Feature = Floats | Traits | str | Failure
Measure = Callable[[Seen], Mapping[str, Feature]]
FID_WEIGHTS, ATTRIBUTE_WEIGHTS = "fid_inception", "celeba_attributes"
"""Names in `models add` of what no catalogue offers."""
FACE, COMPAT_FACE = "face", "compat_face"
"""First words of the features of recognisers: `face/NAME`."""


@dataclass(frozen=True)
class Judge:
    """One network that judges."""

    name: str
    kind: Kind
    """`stand-in` for one that the published tables do not use; `held-out` for a recogniser that conditions nothing."""
    columns: tuple[str, ...]
    """What is computed from it."""
    facts: Mapping[str, str]
    """Its sha256, and where it came from; where it is not of a published size, its `size`."""
    measure: Measure


@dataclass(frozen=True)
class Absent:
    """A judge that is not here."""

    name: str
    columns: tuple[str, ...]
    how: str
    """Why, and what to type."""


@dataclass
class Panel:
    """Every judge, here or not."""

    judges: list[Judge] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    read_text: Callable[[str], Floats] | None = None
    """CLIP's features of a prompt."""
    recognisers: list[str] = field(default_factory=list)
    """Names of those that are here."""

    @contextmanager
    def adding(self, name: str, columns: tuple[str, ...]) -> Iterator[None]:
        """Let a judge that cannot be had be absent, with what to do about it."""
        try:
            yield
        except (FaceCaptionError, ImportError) as error:
            self.absent.append(Absent(name, columns, _how(name, error)))

    def measure(self, seen: Seen) -> dict[str, Feature]:
        """Return what every judge says of a picture."""
        return {name: value for judge in self.judges for name, value in judge.measure(seen).items()}


def load_panel(settings: JudgeSettings, accept_noncommercial: bool, device: str = "cpu") -> Panel:
    """Load every judge that can be had."""
    panel = Panel()
    _add_clip(panel, settings, device)
    _add_dino(panel, settings, device)
    for name in settings.recognisers:
        _add_recogniser(panel, name, name == settings.compat_recogniser, accept_noncommercial, device)
    _add_faceres(panel, device)
    _add_mobileface(panel, device)
    _add_emotion(panel, device)
    _add_inception(panel, settings, device)
    _add_mixed5(panel, device)
    _add_attributes(panel, settings, device)
    _add_vlm(panel, settings, device)
    return panel


def _how(name: str, error: Exception) -> str:
    """Return why a judge is absent and what to do: the shortest way, where all that is wrong is that it is not here."""
    entry = next((entry for entry in catalogue() if entry.name == name), None)
    if isinstance(error, MissingWeightsError) and entry is not None:
        return way_to_get(entry)
    return " ".join(str(error).split())


def _unnamed(key: str, example: str) -> UsageError:
    return UsageError(
        f'under [judges] of the configuration, `{key} = {{ source = "FOLDER" }}`, or of the hub '
        f'`{key} = {{ source = "{example}", revision = "COMMIT" }}`'
    )


def _judge(  # long: the fields of a judge, and what tells its kind
    name: str, columns: tuple[str, ...], facts: Mapping[str, str], num_parameters: int, published: frozenset[int],
    measure: Measure,
) -> Judge:  # fmt: skip
    """Return a judge: a stand-in where it has another number of parameters than any that was published."""
    if num_parameters in published:
        return Judge(name, "real", columns, facts, measure)
    return Judge(name, "stand-in", columns, {**facts, "size": f"{num_parameters:,} parameters"}, measure)


def _add_clip(panel: Panel, settings: JudgeSettings, device: str) -> None:
    columns = ("CLIP-T", "CLIP-I")
    with panel.adding("clip", columns):
        if settings.clip is None:
            raise _unnamed("clip", "openai/clip-vit-base-patch16")
        network = ClipNetwork(settings.clip, device)
        panel.read_text = network.text
        measure = _named("clip", network.picture)
        panel.judges.append(_judge("clip", columns, network.facts, network.num_parameters, CLIP_SIZES, measure))


def _add_dino(panel: Panel, settings: JudgeSettings, device: str) -> None:
    with panel.adding("dino", ("DINO",)):
        if settings.dino is None:
            raise _unnamed("dino", "facebook/dino-vits16")
        network = DinoNetwork(settings.dino, device)
        measure = _named("dino", network.picture)
        panel.judges.append(_judge("dino", ("DINO",), network.facts, network.num_parameters, DINO_SIZES, measure))


def _add_recogniser(panel: Panel, name: str, has_compat: bool, accept_noncommercial: bool, device: str) -> None:
    with panel.adding(name, ("FaceSim",)):
        if name in NONCOMMERCIAL and not accept_noncommercial:
            raise SafetyError(
                "for non-commercial research only: `accept_noncommercial = true` under [faces] of the configuration "
                "accepts its terms"
            )
        _judge_faces(panel, build_recogniser(name, accept_noncommercial, device), "real", has_compat)


def _judge_faces(panel: Panel, recogniser: FaceRecogniser, kind: Kind, has_compat: bool) -> None:
    name = recogniser.identity.name

    def measure(seen: Seen) -> dict[str, Feature]:
        features: dict[str, Feature] = {f"{FACE}/{name}": _embedded(recogniser, seen.rgb, seen.face)}
        if has_compat:
            features[f"{COMPAT_FACE}/{name}"] = _embedded(recogniser, seen.swapped, seen.swapped_face)
        return features

    panel.recognisers.append(name)
    panel.judges.append(Judge(name, kind, ("FaceSim",), {"sha256": recogniser.identity.sha256}, measure))


def _add_faceres(panel: Panel, device: str) -> None:
    with panel.adding(stand_ins.FACERES, ("FaceSim", "Age gap", "Same gender")):
        weights = find_weights(stand_ins.FACERES)
        network = stand_ins.Faceres(weights, device)
        _judge_faces(panel, network, "held-out", has_compat=False)
        columns = ("Age gap", "Same gender")
        measure = _of_face("age_and_gender", network.traits)
        panel.judges.append(Judge("age and gender", "stand-in", columns, {"sha256": weights.sha256}, measure))


def _add_mobileface(panel: Panel, device: str) -> None:
    with panel.adding(stand_ins.MOBILEFACE, ("FaceSim",)):
        network = stand_ins.MobileFace(find_weights(stand_ins.MOBILEFACE), device)
        _judge_faces(panel, network, "held-out", has_compat=False)


def _add_emotion(panel: Panel, device: str) -> None:
    columns = ("Same expression",)
    with panel.adding(stand_ins.EMOTION, columns):
        weights = find_weights(stand_ins.EMOTION)
        network = stand_ins.Emotion(weights, device)
        measure = _of_face("expression", lambda rgb, points: Traits(expression=network.expression(rgb, points)))
        panel.judges.append(Judge(stand_ins.EMOTION, "stand-in", columns, {"sha256": weights.sha256}, measure))


def _add_inception(panel: Panel, settings: JudgeSettings, device: str) -> None:
    columns = ("FID", "KID")
    with panel.adding(FID_WEIGHTS, columns), _told(FID_WEIGHTS, "pt_inception-2015-12-05-6726825d.pth of pytorch-fid"):
        weights = _weights(FID_WEIGHTS, settings.fid_inception)
        from facemakeup.evaluation.inception import FidInception

        network = FidInception(weights, device)
        panel.judges.append(Judge(FID_WEIGHTS, "real", columns, network.facts, _named("inception", network.picture)))


def _add_mixed5(panel: Panel, device: str) -> None:
    columns = ("Frechet distance of mixed5", "KID of mixed5")
    with panel.adding(stand_ins.MIXED5, columns):
        weights = find_weights(stand_ins.MIXED5)
        network = stand_ins.Mixed5(weights, device)
        facts = {"sha256": weights.sha256}
        judge = Judge("mixed5", "stand-in", columns, facts, lambda seen: {"mixed5": network.features(seen.rgb)})
        panel.judges.append(judge)


def _add_attributes(panel: Panel, settings: JudgeSettings, device: str) -> None:
    columns = ("Attr_c", "Attribute F1")
    known = "a ResNet-50 of torchvision's form with 40 outputs, taught CelebA's attributes"
    with panel.adding(ATTRIBUTE_WEIGHTS, columns), _told(ATTRIBUTE_WEIGHTS, known):
        weights = _weights(ATTRIBUTE_WEIGHTS, settings.celeba_attributes)
        from facemakeup.evaluation.inception import AttributeClassifier

        network = AttributeClassifier(weights, device)

        def measure(seen: Seen) -> dict[str, Feature]:
            face = seen.face
            tight = face if isinstance(face, Failure) else network.logits(_cut(seen, face))
            return {"attributes/whole": network.logits(seen.rgb), "attributes/face": tight}

        panel.judges.append(Judge(ATTRIBUTE_WEIGHTS, "real", columns, network.facts, measure))


def _add_vlm(panel: Panel, settings: JudgeSettings, device: str) -> None:
    with panel.adding("vlm", ("VLM-score",)):
        if settings.vlm is None:
            raise _unnamed("vlm", "Qwen/Qwen2-VL-7B-Instruct")
        network = VisionLanguageModel(settings.vlm, device)

        def measure(seen: Seen) -> dict[str, Feature]:
            replies = {True: "vlm/greedy", False: "vlm/sampled"}
            return {name: network.reply(seen.rgb, is_greedy, seed=0) for is_greedy, name in replies.items()}

        panel.judges.append(_judge("vlm", ("VLM-score",), network.facts, network.num_parameters, VLM_SIZES, measure))


def _weights(name: str, place: CheckpointSource | None) -> WeightsFile:
    """Return what the configuration names, else what was confirmed under this name."""
    if place is None:
        return find_weights(name)
    path = fetch_file(place)
    return WeightsFile(name, str(path), sha256_of(path.resolve()))


@contextmanager
def _told(name: str, what: str) -> Iterator[None]:
    """Say of weights that no catalogue knows what they are and how they are brought."""
    try:
        yield
    except FaceCaptionError as error:
        first = str(error).split(";", maxsplit=1)[0]
        why = "" if first.startswith("no weights are named") else f" ({first})"
        how = f"bring {what}, and type `facecaptionhq models add FILE --name {name} --sha256 SHA256`{why}"
        raise UsageError(how) from error


def _named(name: str, measure: Callable[[Any], Mapping[str, Floats]]) -> Measure:
    return lambda seen: {f"{name}/{key}": value for key, value in measure(seen.rgb).items()}


def _of_face(name: str, measure: Callable[[Any, Any], Traits]) -> Measure:
    def measured(seen: Seen) -> dict[str, Feature]:
        face = seen.face
        if isinstance(face, Failure):
            return {name: face}
        try:
            return {name: measure(seen.rgb, face.landmarks_52)}
        except SampleFaultError as fault:
            return {name: Failure(fault.reason)}

    return measured


def _embedded(recogniser: FaceRecogniser, rgb: Any, face: FoundFace | Failure) -> Floats | Failure:
    if isinstance(face, Failure):
        return face
    try:
        return recogniser.embed(rgb, face.landmarks_52)
    except SampleFaultError as fault:
        return Failure(fault.reason)


def _cut(seen: Seen, face: FoundFace) -> Any:
    """Return the face's box, as it lies in the picture."""
    height, width = seen.rgb.shape[:2]
    left, top = max(0, int(face.box[0])), max(0, int(face.box[1]))
    right, bottom = min(width, max(left + 1, int(face.box[2]))), min(height, max(top + 1, int(face.box[3])))
    return seen.rgb[top:bottom, left:right]
