"""What contenders made of pictures, kept from one benchmark for the next under all that an outcome depends on."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.speed.contenders import Outcome
from curation.storage.publish import publish

CACHE = Path("build/agreement")


def place_of(cache: Path, key: str, image_bytes: bytes) -> Path:
    """Return where the outcome of one picture is kept; `key` is the contender's."""
    return cache / key[:16] / f"{hashlib.sha256(image_bytes).hexdigest()[:32]}.json"


def known(path: Path) -> Outcome | None:
    """Return what lies there, None where nothing does."""
    return Outcome(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def keep(path: Path, outcome: Outcome) -> None:
    """Put an outcome there, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, lambda temp: temp.write_text(json.dumps(asdict(outcome)), encoding="utf-8"))
