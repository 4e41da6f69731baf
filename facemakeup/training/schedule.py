"""Learning rate and decay of the average as pure functions of the step, so that resuming has nothing to restore."""

import math

from facemakeup.train_config import OptimSettings


def learning_rate(optim: OptimSettings, step: int) -> float:
    """Return the learning rate of optimiser step `step`, 0-based: linear warmup, then the schedule."""
    if step < optim.num_warmup_steps:
        return optim.learning_rate * (step + 1) / optim.num_warmup_steps
    num_left = max(1, optim.num_steps - optim.num_warmup_steps)
    done = min(1.0, (step - optim.num_warmup_steps) / num_left)
    if optim.schedule == "cosine":
        return optim.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if optim.schedule == "linear":
        return optim.learning_rate * (1 - done)
    return optim.learning_rate


def ema_decay(optim: OptimSettings, step: int) -> float:
    """Return the decay of the average after optimiser step `step`, 0-based.

    With warmup it is at most (1 + step) / (10 + step): else the untrained weights would make up 37 % of the average
    after 10,000 steps at 0.9999 (as in torch_ema and diffusers).
    """
    return min(optim.ema_decay, (1 + step) / (10 + step)) if optim.ema_warmup else optim.ema_decay
