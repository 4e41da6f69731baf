"""Does every metric say what an independent implementation says of the same features? Differences, one row per pair.

    python -m benchmarks.evaluation.independent [--out benchmarks/results/independent.json]

The others are scipy and transformers, which are here, and torchmetrics, torch-fidelity and clean-fid, which are no part
of the project: `uv pip install --no-deps --target peers torchmetrics lightning-utilities torch-fidelity clean-fid`, and
`PYTHONPATH=peers` before the command. One that is not there, or that cannot do it with the libraries here, is named
with the reason. Features are drawn from fixed seeds, with more pictures than numbers and with fewer; networks have
random weights: what is compared is arithmetic. Of a network and of resized pixels the largest difference stands there.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.provenance import RESULTS, commit, machine
from facemakeup.evaluation.attributes import f1, num_sure
from facemakeup.evaluation.cosine import cosines
from facemakeup.evaluation.face_similarity import calibrate
from facemakeup.evaluation.frechet import frechet_distance
from facemakeup.evaluation.image_similarity import similarities
from facemakeup.evaluation.inception import SIDE, _bicubic, fid_inception
from facemakeup.evaluation.kernel import squared_discrepancy
from facemakeup.evaluation.networks import ClipNetwork, NetworkSource
from facemakeup.evaluation.tiny.judges import write_clip

Pair = tuple[float, float]
SETS = {"300 and 300 pictures of 96 numbers": (300, 300, 96), "50 and 50 pictures of 128 numbers": (50, 50, 128)}
"""As many on both sides, since some compute KID over subsets of one size: so there is one subset."""
LIBRARIES = ("scipy", "transformers", "torch", "torchmetrics", "torch-fidelity", "clean-fid")
PROMPT = "a person wearing a red hat"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all, write the differences, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation.independent", description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "independent.json")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    rows = [row(*pair) for pair in pairs()]
    origin = {"libraries": {name: _version(name) for name in LIBRARIES}, "machine": machine(), "commit": commit()}
    options.out.write_text(json.dumps({"rows": rows, **origin}, indent=2) + "\n", encoding="utf-8")
    for each in rows:
        print(f"| {each['metric']} | {each['against']} | {each['of']} | {told(each)} |")
    return 0


def row(metric: str, against: str, of: str, act: Callable[[], Pair]) -> dict[str, Any]:
    """Return both values and their difference, or why there is none."""
    told: dict[str, Any] = {"metric": metric, "against": against, "of": of}
    try:
        ours, theirs = act()
    except Exception as error:  # noqa: BLE001  of whatever others raise, the sentence is the result
        return told | {"fails": f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"}
    return told | {"ours": ours, "theirs": theirs, "difference": abs(ours - theirs)}


def told(each: dict[str, Any]) -> str:
    """Return the end of a line of the table."""
    return each["fails"] if "fails" in each else f"{each['ours']:.6g} | {each['theirs']:.6g} | {each['difference']:.1e}"


def pairs() -> list[tuple[str, str, str, Callable[[], Pair]]]:
    """Return metric, against whom, of what, and what computes both."""
    found: list[tuple[str, str, str, Callable[[], Pair]]] = []
    for of, shape in SETS.items():
        one, other = _sets(*shape)
        found += [
            ("FID", name, of, lambda act=act, one=one, other=other: (frechet_distance(one, other), act(one, other)))
            for name, act in FRECHET.items()
        ]
        found += [
            ("KID", name, of, lambda act=act, one=one, other=other: (squared_discrepancy(one, other), act(one, other)))
            for name, act in KERNEL.items()
        ]
    one, other = (rows[:40] for rows in _sets(60, 40, 128))
    ours = float(np.mean([value for value in similarities(one, other) if isinstance(value, float)]))
    found += [
        ("CLIP-I, DINO, FaceSim", name, "40 pairs of vectors", lambda act=act: (ours, 100 * act(one, other)))
        for name, act in COSINES.items()
    ]
    found += [
        ("separation of a recogniser", "scipy: mannwhitneyu", "18 photos of 6 people", _separation),
        ("Attr_c", "scipy: expit", "40 logits", _sure),
        ("Attribute F1", "torchmetrics: binary_f1_score", "40 logits", _f1),
        ("CLIP-T", "transformers: CLIPModel.forward", "a random CLIP", lambda: _clip_t(_by_transformers)),
        ("CLIP-T", "torchmetrics: clip_score", "a random CLIP", lambda: _clip_t(_by_torchmetrics)),
        ("2,048 features of FID", "torch-fidelity: FeatureExtractorInceptionV3", "random weights", _inception),
        ("resizing of FID (std)", "clean-fid: build_resizer('clean')", "noise of 90 x 60", _resizing),
    ]
    return found


def _sets(num: int, other: int, width: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(num * 1000 + width)
    mix = draw.normal(size=(width, width)) / np.sqrt(width)
    return draw.normal(size=(num, width)) @ mix, draw.normal(0.3, 1.2, size=(other, width)) @ mix


def _moments(one: Any, other: Any) -> list[Any]:
    return [part for rows in (one, other) for part in (rows.mean(axis=0), np.cov(rows, rowvar=False))]


def _frechet_scipy(one: Any, other: Any) -> float:
    from scipy.linalg import sqrtm

    mean, covariance, mean_2, covariance_2 = _moments(one, other)
    root = sqrtm(covariance @ covariance_2).real
    return float(((mean - mean_2) ** 2).sum() + np.trace(covariance + covariance_2 - 2 * root))


def _frechet_torchmetrics(one: Any, other: Any) -> float:
    from torchmetrics.image.fid import _compute_fid

    return float(_compute_fid(*(torch.from_numpy(part) for part in _moments(one, other))))


def _frechet_fidelity(one: Any, other: Any) -> float:
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    mean, sigma, mean_2, sigma_2 = _moments(one, other)
    told = fid_statistics_to_metric({"mu": mean, "sigma": sigma}, {"mu": mean_2, "sigma": sigma_2}, False)
    return float(told["frechet_inception_distance"])


def _frechet_clean(one: Any, other: Any) -> float:
    from cleanfid.fid import frechet_distance as theirs

    return float(theirs(*_moments(one, other)))


def _kernel_torchmetrics(one: Any, other: Any) -> float:
    from torchmetrics.image.kid import poly_mmd

    return float(poly_mmd(torch.from_numpy(one), torch.from_numpy(other)))


def _kernel_fidelity(one: Any, other: Any) -> float:
    from torch_fidelity.metric_kid import kid_features_to_metric

    num = min(len(one), len(other))
    told = kid_features_to_metric(
        torch.from_numpy(one), torch.from_numpy(other), kid_subsets=1, kid_subset_size=num, verbose=False
    )
    return float(told["kernel_inception_distance_mean"])


def _kernel_clean(one: Any, other: Any) -> float:
    from cleanfid.fid import kernel_distance

    num = min(len(one), len(other))
    return float(kernel_distance(one, other, num_subsets=1, max_subset_size=num))


def _cosine_scipy(one: Any, other: Any) -> float:
    from scipy.spatial.distance import cosine

    return float(np.mean([1 - cosine(*pair) for pair in zip(one, other, strict=True)]))


def _cosine_torchmetrics(one: Any, other: Any) -> float:
    from torchmetrics.functional import pairwise_cosine_similarity

    return float(pairwise_cosine_similarity(torch.from_numpy(one), torch.from_numpy(other)).diagonal().mean())


FRECHET = {
    "scipy: sqrtm": _frechet_scipy, "torchmetrics: _compute_fid": _frechet_torchmetrics,
    "torch-fidelity: fid_statistics_to_metric": _frechet_fidelity, "clean-fid: frechet_distance": _frechet_clean,
}  # fmt: skip
KERNEL = {
    "torchmetrics: poly_mmd": _kernel_torchmetrics, "torch-fidelity: kid_features_to_metric": _kernel_fidelity,
    "clean-fid: kernel_distance": _kernel_clean,
}  # fmt: skip
COSINES = {"scipy: cosine": _cosine_scipy, "torchmetrics: pairwise_cosine_similarity": _cosine_torchmetrics}


def _separation() -> Pair:
    from scipy.stats import mannwhitneyu

    draw = np.random.default_rng(3)
    rows = np.repeat(draw.normal(size=(6, 8)), 3, axis=0) + draw.normal(0, 0.8, size=(18, 8))
    who, pairs_of = [str(i // 3) for i in range(18)], [(i, j) for i in range(18) for j in range(i)]
    same = [float(cosines(rows[i : i + 1], rows[j : j + 1])[0]) for i, j in pairs_of if who[i] == who[j]]
    different = [float(cosines(rows[i : i + 1], rows[j : j + 1])[0]) for i, j in pairs_of if who[i] != who[j]]
    theirs = mannwhitneyu(same, different).statistic / len(same) / len(different)
    return float(calibrate(rows, who).separation or 0), float(theirs)


def _logits() -> tuple[Any, Any]:
    draw = np.random.default_rng(1)
    return draw.normal(0, 3, 40), draw.normal(0, 3, 40)


def _sure() -> Pair:
    from scipy.special import expit

    return float(num_sure(_logits()[0])), float((expit(_logits()[0]) > 0.85).sum())


def _f1() -> Pair:
    from torchmetrics.functional.classification import binary_f1_score

    ours, theirs = _logits()
    return f1(ours, theirs), float(binary_f1_score(torch.from_numpy(ours > 0), torch.from_numpy(theirs > 0).int()))


def _clip_t(theirs: Callable[[str, Any], float]) -> Pair:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        network = ClipNetwork(NetworkSource(source=str(write_clip(Path(name) / "clip"))))
        picture, text = network.picture(rgb)["projected"], network.text(PROMPT)
        ours = 100 * float(cosines(picture[None], text[None])[0])
        return ours, theirs(str(Path(name) / "clip"), rgb)


def _by_transformers(folder: str, rgb: Any) -> float:
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(folder).eval()
    given = CLIPProcessor.from_pretrained(folder)(text=[PROMPT], images=[Image.fromarray(rgb)], return_tensors="pt")
    with torch.no_grad():
        return float(100 * model(**given).logits_per_image / model.logit_scale.exp())


def _by_torchmetrics(folder: str, rgb: Any) -> float:
    from torchmetrics.functional.multimodal import clip_score
    from transformers import CLIPModel, CLIPProcessor

    pixels = torch.from_numpy(rgb).permute(2, 0, 1)
    parts = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    return float(clip_score(pixels, PROMPT, model_name_or_path=lambda: parts))


def _inception() -> Pair:
    """Return 0, and the largest difference of any feature in shares of the largest feature."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    network: Any = fid_inception().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    pixels = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        path = Path(name) / "weights.pth"
        torch.save(network.state_dict(), path)
        theirs = FeatureExtractorInceptionV3("random", ["2048"], feature_extractor_weights_path=str(path))(pixels)[0]
        ours = network((pixels.float() - 128) / 128)
    return 0.0, float((ours - theirs).abs().max() / theirs.abs().max())


def _resizing() -> Pair:
    """Return 0, and the largest difference of any pixel (0..255)."""
    from cleanfid.resize import build_resizer

    rgb = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    theirs = build_resizer("clean")(rgb).clip(0, 255)
    ours = _bicubic(rgb).numpy().transpose(1, 2, 0) * 255
    return 0.0, float(np.abs(ours - theirs).max())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except Exception:  # noqa: BLE001  one that is not installed
        return None


if __name__ == "__main__":
    raise SystemExit(main())
