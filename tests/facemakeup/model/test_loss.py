import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from facemakeup.config import DROP_TABLES, DropTable
from facemakeup.model.diffusion import NoiseSchedule
from facemakeup.model.loss import NUM_DROP_DRAWS, bucket_losses, drop, training_loss
from facemakeup.model.sd1 import noise_schedule
from tests.facemakeup import tiny

NUM_DRAWS = 10_000


def uniforms(num: int = NUM_DRAWS) -> Tensor:
    return torch.rand(num, NUM_DROP_DRAWS, generator=torch.Generator().manual_seed(0))


def schedule(prediction_type: str = "epsilon", gamma: float | None = None) -> NoiseSchedule:
    from diffusers import DDPMScheduler

    return noise_schedule(DDPMScheduler(**tiny.SCHEDULE, prediction_type=prediction_type), gamma)


def batch(num: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, num, 4, 8, 8, generator=draw)
    return latents, noise, torch.randint(0, 1000, (num,), generator=draw)


def test_conditions_are_dropped_as_often_as_the_table_says_by_chi_square() -> None:
    from scipy.stats import chisquare

    table = DROP_TABLES["recommended"]
    drops = drop(uniforms(), table)
    outcome = drops.text_B.int() + 2 * drops.identity_B.int()
    shares = [1 - table.text - table.image - table.both, table.text, table.image, table.both]
    assert chisquare(torch.bincount(outcome, minlength=4).numpy(), [NUM_DRAWS * s for s in shares]).pvalue > 0.001
    for mask, share in (
        (drops.pose_B, table.pose),
        (drops.clip_B[~drops.identity_B], table.clip),
        (drops.pose_B[drops.text_B], table.pose),
    ):
        counts = [int(mask.sum()), int((~mask).sum())]
        assert chisquare(counts, [len(mask) * share, len(mask) * (1 - share)]).pvalue > 0.001
    assert bool(drops.clip_B[drops.identity_B].all())


def test_the_reference_drops_clip_alone_and_half_the_time() -> None:
    drops = drop(uniforms(), DROP_TABLES["reference"])
    assert not drops.text_B.any() and not drops.identity_B.any() and not drops.pose_B.any()
    assert 0.48 < drops.clip_B.float().mean() < 0.52


def test_a_sample_s_drops_depend_on_its_own_draws_alone() -> None:
    table, draws = DropTable(), uniforms(64)
    whole, part = drop(draws, table), drop(draws[10:20], table)
    assert torch.equal(whole.clip_B[10:20], part.clip_B) and torch.equal(whole.text_B[10:20], part.text_B)


def test_shares_that_exclude_one_another_cannot_exceed_one() -> None:
    with pytest.raises(ValidationError, match=r"text \+ image \+ both is 1.2"):
        DropTable(text=0.4, image=0.4, both=0.4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noise_and_targets_are_those_of_diffusers(kind: str) -> None:
    from diffusers import DDPMScheduler

    theirs: Any = DDPMScheduler(**tiny.SCHEDULE, prediction_type=kind)
    ours, (latents, noise, timesteps) = noise_schedule(theirs), batch()
    torch.testing.assert_close(ours.noisy(latents, noise, timesteps), theirs.add_noise(latents, noise, timesteps))
    expected = noise if kind == "epsilon" else theirs.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(ours.target(latents, noise, timesteps), expected)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_costs_nothing_and_any_other_its_mean_square(kind: str) -> None:
    ours, (latents, noise, timesteps) = schedule(kind), batch()
    target = ours.target(latents, noise, timesteps)
    assert not training_loss(target, latents, noise, timesteps, ours).any()
    off = training_loss(target + 0.5, latents, noise, timesteps, ours)
    torch.testing.assert_close(off, torch.full((8,), 0.25))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_weighs_by_the_clipped_ratio_of_signal_to_noise(kind: str) -> None:
    from diffusers.training_utils import compute_snr

    ours, (latents, noise, timesteps) = schedule(kind, gamma=5.0), batch()
    off = ours.target(latents, noise, timesteps) + 1
    weights = training_loss(off, latents, noise, timesteps, ours)
    for weight, timestep in zip(weights.tolist(), timesteps.tolist(), strict=True):
        signal = float(ours.signal_T[timestep])
        snr = signal / (1 - signal)
        assert math.isclose(weight, min(snr, 5.0) / (snr if kind == "epsilon" else snr + 1), rel_tol=1e-3)

    class Theirs:
        alphas_cumprod = ours.signal_T

    snr_B = compute_snr(Theirs(), timesteps)
    expected = snr_B.clamp(max=5.0) / (snr_B if kind == "epsilon" else snr_B + 1)
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-6)


def test_a_schedule_that_ends_in_pure_noise_is_weighed_by_numbers() -> None:
    signal, times = torch.tensor([0.999, 0.5, 1e-8, 0.0]), torch.arange(4)
    noise, velocity = (NoiseSchedule(signal, kind, 5.0).weights(times) for kind in ("noise", "velocity"))
    assert noise is not None and velocity is not None
    assert noise[1:].tolist() == [1, 1, 1] and 0 < float(noise[0]) < 0.01
    assert velocity.tolist() == pytest.approx([5 / 1000, 0.5, 1e-8, 0], rel=1e-3)


def test_losses_per_bucket_of_timesteps_add_up_to_the_whole() -> None:
    losses, timesteps = torch.arange(1.0, 9.0), torch.tensor([0, 99, 100, 250, 250, 500, 998, 999])
    sums, counts = bucket_losses(losses, timesteps, 1000)
    assert counts.tolist() == [2, 1, 2, 0, 0, 1, 0, 0, 0, 2]
    assert sums.tolist() == [3, 3, 9, 0, 0, 6, 0, 0, 0, 15]


def test_a_base_that_predicts_the_picture_itself_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'sample'.*epsilon or v_prediction"):
        schedule("sample")
