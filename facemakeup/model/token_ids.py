"""Captions as text encoders take them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from facemakeup.model.send import send


def token_ids(tokenizer: Any, captions: Sequence[str], device: torch.device) -> Tensor:
    """Return the numbers (B, L) of captions' tokens, padded or cut to the tokenizer's length, on a device."""
    tokens = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    return send(tokens.input_ids, device)
