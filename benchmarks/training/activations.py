"""Adds up, on the meta device, the tensors that autograd keeps for one picture: what activations need of a GPU.

Attention is taken as a fused kernel computes it: inputs, output and one number per query are kept, never the matrix
of scores. Parameters are not counted. Under autocast some of what is kept is bfloat16 and some float32, so a real
figure lies between the two that `activations` gives.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from facemakeup.model.facemakeup import FaceMakeUp

SEGMENTS = ("ResnetBlock2D", "BasicTransformerBlock")
"""What diffusers computes again, one at a time, under gradient checkpointing."""


class _Fused(torch.autograd.Function):
    """Keeps what a fused attention kernel keeps; computes nothing, since a meta tensor has no values."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention:
            return _Fused.apply(*args[:3])
        return function(*args, **(kwargs or {}))


class _Ledger:
    """What is kept so far, by storage, parameters left out."""

    def __init__(self, model: FaceMakeUp) -> None:
        self._parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        self._sizes: dict[int, int] = {}
        self._alive: list[Tensor] = []

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._parameters:
            self._alive.append(tensor)
            self._sizes[storage._cdata] = storage.nbytes()
        return tensor

    def total(self) -> int:
        return sum(self._sizes.values())


def activations(model: FaceMakeUp, inputs: dict[str, Tensor], checkpointing: bool) -> int:
    """Return the bytes at their peak; model and inputs are on the meta device and of one dtype.

    With checkpointing that is what lies between the segments, and the largest segment, which is computed again.
    """
    plain, largest = _kept(model, inputs)
    if not checkpointing:
        return plain
    model.train()
    model.enable_gradient_checkpointing()
    between, _ = _kept(model, inputs)
    return between + largest


def _kept(model: FaceMakeUp, inputs: dict[str, Tensor]) -> tuple[int, int]:
    """Return the bytes that a forward pass keeps, and those of its largest segment."""
    ledger = _Ledger(model)
    begun: dict[int, int] = {}
    segments: list[int] = []

    def begin(module: torch.nn.Module, _: Any) -> None:
        begun[id(module)] = ledger.total()

    def end(module: torch.nn.Module, _: Any, __: Any) -> None:
        segments.append(ledger.total() - begun[id(module)])

    hooks = []
    for module in model.modules():
        if type(module).__name__ in SEGMENTS:
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    with torch.autograd.graph.saved_tensors_hooks(ledger.pack, lambda tensor: tensor), _FusedAttention():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return ledger.total(), max(segments)
