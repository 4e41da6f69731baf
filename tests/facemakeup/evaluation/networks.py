"""Tiny random networks of the published classes, in folders as transformers writes them."""

from facemakeup.evaluation.tiny.judges import CLIP_PROCESSOR, DINO_PROCESSOR, SIDE, write_clip, write_dino

__all__ = ["CLIP_PROCESSOR", "DINO_PROCESSOR", "SIDE", "write_clip", "write_dino"]
