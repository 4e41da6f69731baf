"""Captions as text encoders take them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facemakeup.model.send import send


def token_ids(tokenizer: Any, captions: Sequence[str], device: torch.device) -> Tensor:
    """Return the numbers (B, L) of captions' tokens, padded or cut to the tokenizer's length, on a device."""
    return send(_tokens(tokenizer, captions).input_ids, device)


def token_spans(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Return which characters of its caption each token stands for, int64 (B, L, 2) on the CPU; alike where none."""
    return torch.as_tensor(_tokens(tokenizer, captions, return_offsets_mapping=True).offset_mapping)


def _tokens(tokenizer: Any, captions: Sequence[str], **options: Any) -> Any:
    return tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
        **options,
    )
