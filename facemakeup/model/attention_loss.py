"""The attention-map loss: words that name a part of a face are attended to from where that part is, and nowhere else.

As the published training of Face-MakeUpV2 (arXiv 2510.21775) does it: squared errors between the share of attention
that a place of the picture gives to a word's tokens, each and their mean, and the mask of what the word names; the mean
over heads and places, summed over layers. The masks there are parsed ones; here they follow from box and landmarks.

Shapes: B pictures, H heads, S queries, L tokens, R regions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from facemakeup.model.face_regions import grid_of, region_masks


def attention_loss(
    maps: Sequence[Tensor], tokens_BRL: Tensor, boxes_B4: Tensor, landmarks_B52: Tensor, size: tuple[int, int],
    latent: tuple[int, int],
) -> Tensor:  # fmt: skip
    """Return the loss of each picture, float32 (B,); 0 where its caption names no part that is in the picture.

    `maps` are (B, H, S, L), rows of which add up to 1; `tokens_BRL` says which tokens speak of which region; boxes,
    landmarks and `size` are in pixels, `latent` is the size of the latents.
    """
    total = torch.zeros(len(tokens_BRL), device=tokens_BRL.device)
    for attention_BHSL in maps:
        grid = grid_of(attention_BHSL.shape[2], latent)
        masks_BRS = region_masks(boxes_B4, landmarks_B52, size, grid).flatten(2)
        total = total + _of_layer(attention_BHSL.float(), tokens_BRL.float(), masks_BRS.float())
    return total


def _of_layer(attention_BHSL: Tensor, tokens_BRL: Tensor, masks_BRS: Tensor) -> Tensor:
    """Return the mean over regions that are named and seen of the mean error of their tokens and of these's mean."""
    each_BRL = _errors(attention_BHSL, masks_BRS)
    num_tokens_BR = tokens_BRL.sum(dim=2)
    shares = tokens_BRL / num_tokens_BR.clamp(min=1)[:, :, None]
    mean_BHSR = torch.einsum("bhsl,brl->bhsr", attention_BHSL, shares)
    of_mean_BR = (mean_BHSR - masks_BRS.transpose(1, 2)[:, None]).square().mean(dim=(1, 2))
    errors_BR = ((each_BRL * tokens_BRL).sum(dim=2) + of_mean_BR) / (num_tokens_BR + 1)
    counts_BR = ((num_tokens_BR > 0) & (masks_BRS.sum(dim=2) > 0)).float()
    return (errors_BR * counts_BR).sum(dim=1) / counts_BR.sum(dim=1).clamp(min=1)


def _errors(attention_BHSL: Tensor, masks_BRS: Tensor) -> Tensor:
    """Return the mean over heads and queries of (attention - mask) squared, (B, R, L), without holding all of them."""
    num_heads, num_queries = attention_BHSL.shape[1:3]
    squares_BL = attention_BHSL.square().mean(dim=(1, 2))
    crossed_BRL = torch.einsum("bhsl,brs->brl", attention_BHSL, masks_BRS) / (num_heads * num_queries)
    return squares_BL[:, None] - 2 * crossed_BRL + masks_BRS.mean(dim=2)[:, :, None]
