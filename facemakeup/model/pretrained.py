"""Parts of published models, from a folder or from the hub, and their configurations alone."""

import json
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from curation.errors import UsageError

FAR = (
    "it is no folder here, and none of the hub's models that were fetched before, while the hub cannot be reached: "
    "name a folder, or run where there is a network"
)
PATIENCE_S = 5.0
"""How long the hub may take to answer at all, seconds."""


def load_part(kind: Any, source: str, subfolder: str, revision: str | None, dtype: torch.dtype | None = None) -> Any:
    """Return a pretrained part from a folder or from the hub; `subfolder` may be empty.

    `dtype` is for networks: their weights are in it from the start, and never in another one beside it.

    Raises:
        UsageError: it is not there, or not of this kind.
    """
    without_bars()
    options: dict[str, Any] = {"revision": revision} if revision else {}
    options |= {"dtype": dtype} if dtype is not None else {}
    is_folder = Path(source).is_dir()
    is_near = is_folder or not hub_answers()
    if is_folder and not (Path(source) / subfolder).is_dir():
        raise UsageError(f"{source}: no folder {subfolder!r} in it, where diffusers keeps {kind.__name__}")
    try:
        return kind.from_pretrained(source, subfolder=subfolder, local_files_only=is_near, **options)
    except (OSError, ValueError) as error:
        where = f"{source}/{subfolder}" if subfolder else source
        why = f"{FAR} (https://huggingface.co/{source})" if is_near and not is_folder else str(error)
        raise UsageError(f"{where}: no {kind.__name__} could be loaded from it: {why}") from error


def without_bars() -> None:
    """Let diffusers and transformers draw no bar of progress for every part that they load or write."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()


def load_config(source: str, subfolder: str, revision: str | None = None) -> Mapping[str, Any]:
    """Return what the `config.json` of a part says.

    Raises:
        OSError: there is none, or it cannot be read or fetched.
    """
    return (
        _config_in_folder(source, subfolder) if Path(source).is_dir() else _config_on_hub(source, subfolder, revision)
    )


def _config_in_folder(source: str, subfolder: str) -> Mapping[str, Any]:
    path = Path(source) / subfolder / "config.json"
    try:
        config: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{path}: not valid JSON: {error}") from error
    return config


def _config_on_hub(source: str, subfolder: str, revision: str | None) -> Mapping[str, Any]:
    from diffusers import AutoModel

    options = {"revision": revision} if revision else {}
    is_near = not hub_answers()
    try:
        config: Mapping[str, Any] = AutoModel.load_config(
            source, subfolder=subfolder, local_files_only=is_near, **options
        )
    except OSError as error:
        raise OSError(FAR if is_near else str(error)) from error
    return config


@lru_cache
def hub_answers() -> bool:
    """Return whether the hub can be reached, asked once per process.

    Where it cannot, what was fetched before is used at once, and the rest is refused at once: its library would try
    each file six times, which takes half a minute.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():
        return True  # what lies behind a proxy is for the library to find out
    place = urllib.parse.urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((place.hostname, place.port or 443), PATIENCE_S).close()
    except OSError:
        return False
    return True


def settle(network: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """Put a network where it is to work, in the precision that is asked for, frozen and in eval mode, and return it."""
    placed = network.to(device) if dtype is None else network.to(dtype).to(device)
    return placed.requires_grad_(False).eval()
