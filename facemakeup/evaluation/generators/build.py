"""From what a configuration says of a method to the method itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from facemakeup.evaluation.generators.base import Generator
from facemakeup.evaluation.generators.settings import GeneratorSettings
from facemakeup.model.pretrained import without_bars


def build(settings: GeneratorSettings, accept_noncommercial: bool, device: str) -> Generator:
    """Load a method; see the method's module for what is raised."""
    without_bars()
    return BUILDERS[settings.kind](settings, accept_noncommercial, device)


def _face_makeup(*given: Any) -> Generator:
    from facemakeup.evaluation.generators.face_makeup import FaceMakeUpGenerator

    return FaceMakeUpGenerator(*given)


def _face_id_plus(*given: Any) -> Generator:
    from facemakeup.evaluation.generators.ip_adapter import FaceIdPlusGenerator

    return FaceIdPlusGenerator(*given)


def _instantid(*given: Any) -> Generator:
    from facemakeup.evaluation.generators.instantid import InstantIdGenerator

    return InstantIdGenerator(*given)


def _photomaker(*given: Any) -> Generator:
    from facemakeup.evaluation.generators.photomaker import PhotoMakerGenerator

    return PhotoMakerGenerator(*given)


def _pulid(*given: Any) -> Generator:
    from facemakeup.evaluation.generators.pulid import PulidGenerator

    return PulidGenerator(*given)


BUILDERS: Mapping[str, Callable[..., Generator]] = MappingProxyType(
    {
        "face-makeup": _face_makeup,
        "ip-adapter-faceid-plus": _face_id_plus,
        "instantid": _instantid,
        "photomaker": _photomaker,
        "pulid": _pulid,
    }
)
"""Kind of a method -> what loads it."""
