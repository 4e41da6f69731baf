"""What the page works with: an adapter, the faces that it was given, and one drawing at a time in a thread beside."""

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import FaceCaptionError, UsageError
from curation.storage.publish import TEMP_FOLDER, publish_json
from curation.version import CODE_VERSION
from facemakeup.faces.align import ARCFACE_SIDE, ARCFACE_TEMPLATE
from facemakeup.faces.posemap import COLOURS, LIMB_COLOURS, draw
from facemakeup.inference.export import read_record
from facemakeup.inference.generate import RECORD, FaceFinder, FaceReader, crop_factor, drawn, trained_side, write_marked
from facemakeup.inference.marking import labelled
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.inference.screening import require_decent
from facemakeup.studio.asked import STYLES, Asked
from facemakeup.studio.known import KnownFace, KnownFaces

MAX_FOLDERS = 100_000


@dataclass
class Drawing:
    """Pictures that were asked for, and how far they are."""

    folder: Path
    asked: Asked
    faces: Sequence[KnownFace]
    files: dict[str, str] = field(default_factory=dict)
    """Name of each picture that is there -> its sha256."""
    error: str | None = None
    is_over: bool = False
    is_stopped: bool = False

    def state(self) -> dict[str, Any]:
        """Return what the page shows of it."""
        cells = [
            {"scales": {name: getattr(scales, name) for name in ("face", "clip", "pose")}, "file": name}
            for scales, name in zip(self.asked.cells, self._names(), strict=True)
        ]
        return {
            "name": self.folder.name, "folder": str(self.folder), "prompt": self.asked.requests()[0].prompts[0],
            "seed": self.asked.seed, "num_columns": self.asked.num_columns, "cells": cells, "error": self.error,
            "is_over": self.is_over, "is_stopped": self.is_stopped,
        }  # fmt: skip

    def _names(self) -> list[str | None]:
        names = [f"{number:03d}.png" for number in range(len(self.asked.cells))]
        return [name if name in self.files else None for name in names]


class StudioDesk:
    """An adapter that draws for one page."""

    def __init__(
        self, adapter: Path, pipe: FaceMakeUpPipeline, finder: FaceFinder, out: Path, side: int | None = None
    ) -> None:
        """Keep them; `side` is that of the pictures which the page offers first, None takes the adapter's own.

        Raises:
            UsageError: there is no adapter.
        """
        self._adapter, self._pipe, self._out, self._record = adapter, pipe, out, read_record(adapter)
        self._side = trained_side(self._record["facts"]) if side is None else side
        self.faces = KnownFaces(FaceReader(pipe, finder))
        self._drawings: dict[str, Drawing] = {}
        self._beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="studio")

    @property
    def facts(self) -> dict[str, Any]:
        """What does not change while the page is open."""
        config, trained = self._pipe.model.config, self._record["facts"]
        frontal = (ARCFACE_TEMPLATE / ARCFACE_SIDE - 0.5) / (self._factor or 3.0) + 0.5
        return {
            "adapter": self._adapter.name, "base": Path(config.base).name, "recogniser": config.recogniser.name,
            "guidance": self._pipe.encoders.base.guidance_scale,
            "step": trained.get("step"), "weights": trained.get("weights"), "side": self._side,
            "stride": self._pipe.encoders.base.side_step, "styles": list(STYLES), "folder": str(self._out),
            "frontal": frontal.round(4).tolist(), "colours": COLOURS, "limb_colours": LIMB_COLOURS,
        }  # fmt: skip

    def add_face(self, content: bytes, name: str) -> dict[str, Any]:
        """Take a photo; return its face's name, and its landmarks as a pose."""
        key, face = self.faces.add(content, name[:200] or "photo")
        return {"face": key, "name": face.name, "points": face.points(self._factor)}

    def start(self, asked: Asked) -> dict[str, Any]:
        """Begin a drawing.

        Raises:
            UsageError: another is not over, a face is not known, or sizes do not fit.
            SafetyError: the prompt asks for an intimate picture of a person.
        """
        require_decent([words for request in asked.requests() for words in request.drawn_words])
        if any(not drawing.is_over for drawing in self._drawings.values()):
            raise UsageError("a drawing is under way: wait for it, or stop it")
        step = self._pipe.encoders.base.side_step
        if asked.height % step or asked.width % step:
            raise UsageError(f"sides must be multiples of {step}, not {asked.width} x {asked.height}")
        faces = self.faces.all_of([one.face for one in asked.faces])
        if not any(one.weight for one in asked.faces):
            raise UsageError("every face has the weight 0: give one a larger weight")
        drawing = Drawing(self._new_folder(), asked, faces)
        self._drawings = {drawing.folder.name: drawing}
        self._beside.submit(self._draw, drawing)
        return drawing.state()

    def state(self) -> dict[str, Any]:
        """Return how far the last drawing is."""
        return next((drawing.state() for drawing in self._drawings.values()), {"name": None})

    def stop(self) -> dict[str, Any]:
        """Let the drawing end after the picture that is being drawn."""
        for drawing in self._drawings.values():
            drawing.is_stopped |= not drawing.is_over
        return self.state()

    def picture(self, name: str, file: str) -> bytes | None:
        """Return a picture of the last drawing; None where there is none of that name."""
        drawing = self._drawings.get(name)
        return (drawing.folder / file).read_bytes() if drawing is not None and file in drawing.files else None

    def close(self) -> None:
        """End after the picture that is being drawn."""
        self.stop()
        self._beside.shutdown()

    @property
    def _factor(self) -> float | None:
        return crop_factor(self._record["facts"])

    def _draw(self, drawing: Drawing) -> None:
        try:
            self._draw_all(drawing)
        except FaceCaptionError as error:
            drawing.error = str(error)
        except Exception as error:  # noqa: BLE001  what nobody foresaw is told on the page; nobody waits for this thread
            drawing.error = f"this is a bug in facecaptionhq: {error!r}"
        finally:
            drawing.is_over = True

    def _draw_all(self, drawing: Drawing) -> None:
        asked = drawing.asked
        conditions = [face.condition for face in drawing.faces]
        size = (asked.height, asked.width)
        pose = None if asked.pose is None else draw(np.array(asked.pose) * (asked.width, asked.height), size)
        self._write_record(drawing)  # before any picture: a kill leaves none of which nothing is said
        try:
            for number, request in enumerate(asked.requests()):
                if drawing.is_stopped:
                    return
                picture = drawn(self._pipe, request.prompts[0], conditions, pose, request)
                name = f"{number:03d}.png"
                drawing.files[name] = write_marked(drawing.folder / name, labelled(picture))
                self._write_record(drawing)
        finally:
            if not drawing.files:
                shutil.rmtree(drawing.folder)

    def _write_record(self, drawing: Drawing) -> None:
        """Say how the pictures that are there were made, and what was asked for."""
        weights = [one.weight for one in drawing.asked.faces]
        record = {
            "code_version": CODE_VERSION,
            "adapter": str(self._adapter),
            "adapter_files": self._record["files"],
            "faces": [{**face.record, "weight": weight} for face, weight in zip(drawing.faces, weights, strict=True)],
            "pose": drawing.asked.pose,
            "requests": [
                request.on(self._pipe, self._record["facts"]).model_dump(mode="json")
                for request in drawing.asked.requests()
            ],
            "files": drawing.files,
        }
        publish_json(drawing.folder / RECORD, record)
        (drawing.folder / TEMP_FOLDER).rmdir()

    def _new_folder(self) -> Path:
        for number in range(1, MAX_FOLDERS):
            folder = self._out / f"{number:05d}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
        raise UsageError(f"{self._out}: holds {MAX_FOLDERS} drawings already; name another folder")


def open_studio(
    adapter: Path,
    finder: FaceFinder,
    out: Path,
    side: int | None = None,
    base: str | None = None,
    image_encoder: str | None = None,
    device: str = "cpu",
) -> StudioDesk:
    """Load an adapter for a page.

    Raises:
        UsageError: a part is not there, or does not fit.
        VerificationError: the adapter's files are damaged.
        DeviceError: torch sees no such device.
    """
    return StudioDesk(
        adapter, FaceMakeUpPipeline.from_pretrained(adapter, base, image_encoder, device), finder, out, side
    )
