"""Who a face is, as the methods take it: some want the vector at length 1, some as long as the network makes it."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from curation.errors import UsageError
from facemakeup.evaluation.generators.base import Reference
from facemakeup.evaluation.generators.settings import IdentitySource
from facemakeup.faces.recognisers import BUILDERS, NONCOMMERCIAL_TERMS, UNCATALOGUED, ArcFaceOnnx, find_recogniser
from filters.base import WeightsFile
from filters.weights import sha256_of

Length = Literal["unit", "as-made"]


def load_identity(source: IdentitySource, accept_noncommercial: bool, device: str) -> ArcFaceOnnx:
    """Return the recogniser of a method.

    Raises:
        RecogniserError: it is unknown, or its terms are not accepted.
        WeightsError: its weights are not here.
        UsageError: its file is not there, or it is not of the ArcFace family.
    """
    if source.file is not None:
        path = Path(source.file)
        if not path.is_file():
            offered = UNCATALOGUED.get(source.name, "a recogniser of the catalogue")
            raise UsageError(f"{path}: no such recogniser; {source.name} is {offered} ({NONCOMMERCIAL_TERMS})")
        return ArcFaceOnnx(WeightsFile(source.name, str(path), sha256_of(path)), normalises=False, device=device)
    recogniser = BUILDERS[source.name](find_recogniser(source.name, accept_noncommercial), device)
    if not isinstance(recogniser, ArcFaceOnnx):
        raise UsageError(f"recogniser {source.name!r} is not of the ArcFace family, which this method takes")
    return recogniser


def identity_of(recogniser: ArcFaceOnnx, reference: Reference, length: Length) -> Tensor:
    """Return the vector (1, D) of the reference's face, float32.

    Raises:
        SampleFaultError: the landmarks fit no face, or the network gives no direction.
    """
    measure = recogniser.embed if length == "unit" else recogniser.features
    return torch.from_numpy(measure(reference.rgb, reference.face.landmarks_52))[None]
