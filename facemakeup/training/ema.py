"""An exponential moving average of the trainables, which is steadier than they are and is what gets exported."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """After each update: decay * before + (1 - decay) * value, per parameter, float32."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Begin with the values as they are."""
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        """Take the parameters' present values in; `decay` is the share of what was there before."""
        averages = [self.values[name] for name in parameters]
        torch._foreach_lerp_(averages, [value.detach() for value in parameters.values()], 1 - decay)

    @contextmanager
    def in_place_of(self, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
        """Put the average where the parameters are, and the parameters back afterwards, bit for bit."""
        with torch.no_grad():
            own = {name: value.detach().clone() for name, value in parameters.items()}
            for name, value in parameters.items():
                value.copy_(self.values[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in parameters.items():
                    value.copy_(own[name])
