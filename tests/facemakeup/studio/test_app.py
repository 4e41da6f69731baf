import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from curation.serving.guard import Secrets
from facemakeup.inference.generate import drawn
from facemakeup.inference.marking import SOURCE_TYPE
from facemakeup.studio.app import MAX_PHOTO_BYTES, build_app
from facemakeup.studio.asked import MAX_PICTURES, Asked
from facemakeup.studio.studio import Drawing, StudioDesk
from filters.base import RgbImage
from tests.facemakeup import tiny
from tests.filters.marks import astronaut, with_centerface
from tests.pictures import encode, scene

PORT = 8766
CONSENT = "she signed a release"


@pytest.fixture
def client(studio: StudioDesk) -> TestClient:
    """A browser that opened the address."""
    known = Secrets(PORT, "studio")
    asking = TestClient(build_app(studio, known), base_url=f"http://127.0.0.1:{PORT}")
    assert asking.get(f"/?token={known.token}").status_code == 200
    asking.headers["x-page-csrf"] = asking.get("/api/facts").json()["csrf"]
    return asking


def add(client: TestClient, picture: RgbImage, name: str) -> dict[str, Any]:
    answer = client.post("/api/face", params={"name": name}, content=encode(picture, "png"))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def finished(client: TestClient) -> dict[str, Any]:
    while not (state := client.get("/api/state").json())["is_over"]:
        time.sleep(0.02)
    return dict(state)


@pytest.mark.slow
@with_centerface
def test_a_drawing_is_what_generate_draws_marked_for_people_and_machines_and_its_record_says_how(
    studio: StudioDesk, client: TestClient, tmp_path: Path
) -> None:
    one, two = add(client, astronaut(), "a.png"), add(client, np.ascontiguousarray(astronaut()[:, ::-1]), "b.png")
    faces = [{"face": one["face"], "weight": 0.25}, {"face": two["face"], "weight": 0.75}]
    body = {
        "faces": faces, "prompt": " a red hat ", "style": "watercolour", "pose": two["points"], "consent": CONSENT,
        "rows": {"scale": "face", "values": [0, 1]}, "columns": {"scale": "pose", "values": [0, 1]}, "steps": 2,
        "height": tiny.SIDE, "width": tiny.SIDE, "seed": 3,
    }  # fmt: skip
    recorded: list[int] = []  # by the record, whenever something is computed
    said = tmp_path / "drawings" / "00001" / "generate.json"
    hook = studio._pipe.model.projector.register_forward_pre_hook(
        lambda *_: recorded.append(len(json.loads(said.read_text())["files"]))
    )
    assert client.post("/api/draw", json=body).json()["num_columns"] == 2
    state = finished(client)
    hook.remove()
    assert recorded == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (state["error"], state["prompt"]) == (None, "a red hat, watercolour, soft edges, paper texture")
    scales = [(cell["scales"]["face"], cell["scales"]["pose"]) for cell in state["cells"]]
    assert scales == [(0, 0), (0, 1), (1, 0), (1, 1)]
    sent = [client.get(f"/drawn/{state['name']}/{cell['file']}") for cell in state["cells"]]
    pictures = [np.asarray(Image.open(io.BytesIO(answer.content))) for answer in sent]
    assert len({picture.tobytes() for picture in pictures}) == 4
    known = studio.faces.all_of([one["face"], two["face"]])
    pose = known[1].condition.pose(_size(), studio._factor)
    request = Asked.model_validate(body).requests()[3]
    expected = drawn(studio._pipe, request.prompts[0], [face.condition for face in known], pose, request)
    assert np.abs(pictures[3][: tiny.SIDE].astype(int) - expected).max() <= 1  # points are rounded on their way
    strip = pictures[3][tiny.SIDE :]
    assert len(strip) >= 12 and strip.max() > 200 and strip.min() < 40
    assert all(SOURCE_TYPE.encode() in answer.content for answer in sent)
    record = json.loads((Path(state["folder"]) / "generate.json").read_text())
    assert [(face["photo"], face["weight"]) for face in record["faces"]] == [("a.png", 0.25), ("b.png", 0.75)]
    assert record["requests"][3]["consent"] == CONSENT and len(record["files"]) == 4
    assert client.get(f"/face/{one['face']}").headers["content-type"] == "image/png"
    _require_stopping(studio, Drawing(Path(state["folder"]).with_name("stopped"), Asked.model_validate(body), known))
    client.post("/api/remove", json={"face": one["face"]})
    assert client.get(f"/face/{one['face']}").status_code == 404
    _require_refusals(client, body | {"faces": faces[1:]}, one["face"])


def _require_stopping(studio: StudioDesk, drawing: Drawing) -> None:
    """A drawing that is stopped before its first picture is over, and leaves no folder."""
    drawing.folder.mkdir()
    studio._drawings = {drawing.folder.name: drawing}
    assert studio.stop()["is_stopped"]
    studio._draw(drawing)
    assert drawing.is_over and drawing.error is None and not drawing.folder.exists()
    assert studio.stop()["is_stopped"]  # stopping what is over changes nothing


def _size() -> Any:
    from facemakeup.faces.crop import Size

    return Size(tiny.SIDE, tiny.SIDE)


def _require_refusals(client: TestClient, body: dict[str, Any], removed: str) -> None:
    many = {"scale": "face", "values": [1] * (MAX_PICTURES // 2 + 1)}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"consent": "  "}, "consent"), ({"prompt": "a naked woman"}, "intimate picture"), ({"faces": []}, "faces"),
        ({"negative_prompt": "a naked woman", "guidance": 0}, "intimate picture"),
        ({"faces": [{"face": removed, "weight": 1}]}, "not here any more"), ({"style": "cubist"}, "style 'cubist'"),
        ({"faces": [body["faces"][0] | {"weight": 0}]}, "weight 0"), ({"height": 63}, "multiples of 8"),
        ({"rows": many, "columns": {"scale": "clip", "values": [0, 1]}}, "a grid of 38 pictures; 36 at most"),
        ({"rows": many | {"values": [1]}, "columns": {"scale": "face", "values": [0]}}, "both change the scale 'face'"),
        ({"pose": [[0, 0]]}, "pose"), ({"scales": {"face": -1}}, "scales.face"), ({"nonsense": 1}, "nonsense"),
    ]  # fmt: skip
    for change, words in wrong:
        answer = client.post("/api/draw", json=body | change)
        assert answer.status_code == 400 and words in answer.json()["error"], (change, answer.text)
    for content, words in ((b"<svg/>", "no.svg"), (encode(scene(1, 96, 96), "png"), "no face is found")):
        answer = client.post("/api/face", params={"name": "no.svg"}, content=content)
        assert answer.status_code == 400 and words in answer.json()["error"], answer.text


def test_only_the_browser_with_the_token_draws_and_no_path_leads_to_a_file(
    studio: StudioDesk, client: TestClient
) -> None:
    stranger = TestClient(build_app(studio, Secrets(PORT, "studio")), base_url=f"http://127.0.0.1:{PORT}")
    for path in ("/", "/api/facts", "/page/main.js", "/drawn/00001/000.png", "/face/0"):
        refused = stranger.get(path)
        assert refused.status_code == 403 and "facecaptionhq studio" in refused.text, path
    for path in ("/api/face", "/api/draw", "/api/stop", "/api/remove"):
        assert client.post(path, content=b"", headers={"x-page-csrf": "wrong"}).status_code == 403, path
    large = client.post("/api/face", content=b"", headers={"content-length": str(MAX_PHOTO_BYTES + 1)})
    assert large.status_code == 413
    for path in ("/drawn/..%2f..%2fadapter/adapter_config.json", "/drawn/00001/..%2fgenerate.json", "/page/..%2fapp.py",
                 "/face/..%5c", "/drawn/../adapter/adapter_config.json"):  # fmt: skip
        assert client.get(path).status_code == 404, path
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "require-trusted-types-for 'script'" in policy
