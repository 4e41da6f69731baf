"""Copies to a device that nobody waits for."""

from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; to a GPU it goes by way of locked memory, so that the host goes on."""
    if tensor.is_cuda or device.type != "cuda":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)


class Travels(Protocol):
    """What can be copied to a device, such as a batch."""

    def to(self, device: torch.device) -> Self:
        """Return it on a device."""
        ...

    def used_by(self, stream: Any) -> Self:
        """Return it, its memory kept until a stream has come by."""
        ...


T = TypeVar("T", bound=Travels)


class Beside:
    """Copies to a GPU beside what it computes, on a stream of their own; elsewhere it just copies.

    The host runs ahead of a GPU by several steps, so what is sent for the next one comes while this one is computed.
    """

    def __init__(self, device: torch.device) -> None:
        """Make the stream."""
        self._device = device
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's stubs say no more

    def send(self, item: T) -> T:
        """Return the item on the device; what is computed from now on waits for it there, the host does not."""
        if self._stream is None:
            return item.to(self._device)
        with torch.cuda.stream(self._stream):
            sent = item.to(self._device)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        return sent.used_by(computing)
