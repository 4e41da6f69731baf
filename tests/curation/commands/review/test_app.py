import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from curation.commands.curate.stage import curate
from curation.commands.forget.reach import reach
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_list
from curation.commands.gc.collect import collect
from curation.commands.review.app import build_app
from curation.commands.review.desk import Choices, Desk, open_desk
from curation.commands.review.gallery import Query
from curation.commands.review.pictures import content_type
from curation.commands.review.store import Labels, hand_picked
from curation.commands.verify.check import verify
from curation.dataset.label_file import add
from curation.dataset.labels import Label, read_labels
from curation.errors import UsageError
from curation.serving.guard import HEADERS, MAX_BODY_BYTES, Secrets, refusal_of
from tests.curation.commands.report.run import ALONE, RECIPE
from tests.curation.shards import colourful, grey, recipe_from, sample_members, write_shard
from tests.curation.whole_run import write_run

PORT = 8765
A, B, C = "a" * 32, "b" * 32, "c" * 32
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "right-to-left \u202egnp.exe\u202c and \x1b[31mred\x1b[0m",
    "long " * 40_000,
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A folder of tars in img2dataset's form, curated elsewhere: its done records say where."""
    folder = tmp_path_factory.mktemp("review")
    samples = [sample_members(f"{i:05d}", colourful(i) if i % 2 else grey(i)) for i in range(8)]
    for number, text in enumerate(HOSTILE):
        samples[number][2] = (samples[number][2][0], text.encode())
    samples.append(sample_members("page", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"))
    write_shard(folder / "tars", "00000", samples)
    curate(folder / "tars", folder / "run" / "curate", recipe_from(folder, RECIPE), ALONE)
    made = open_desk(folder / "run", Choices("ada", num=6))
    yield made
    made.close()


@pytest.fixture
def client(desk: Desk) -> TestClient:
    """A browser that opened the address."""
    known = Secrets(PORT, "review")
    asking = TestClient(build_app(desk, known), base_url=f"http://127.0.0.1:{PORT}")
    assert asking.get(f"/?token={known.token}").status_code == 200
    asking.headers["x-page-csrf"] = asking.get("/api/facts").json()["csrf"]
    return asking


def test_only_the_browser_with_the_token_and_only_this_page_is_answered(desk: Desk) -> None:
    known = Secrets(PORT, "review")
    app = build_app(desk, known)
    stranger = TestClient(app, base_url=f"http://127.0.0.1:{PORT}")
    for path in (
        "/",
        "/?token=wrong",
        "/api/facts",
        "/page/main.js",
        f"/picture/{'0' * 32}",
        "/?token=" + "x" * 30_000,
    ):
        assert stranger.get(path).status_code == 403, path
    first = stranger.get(f"/?token={known.token}")
    assert first.status_code == 200 and "HttpOnly; SameSite=Strict" in first.headers["set-cookie"]
    csrf = stranger.get("/api/facts").json()["csrf"]
    for host in ("evil.example", "evil.example:8765", f"127.0.0.1:{PORT + 1}", f"evil.example@127.0.0.1:{PORT}"):
        assert stranger.get("/api/facts", headers={"host": host}).status_code == 421, host

    def undo(**headers: str) -> int:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return stranger.post("/api/undo", json={"reviewer": "ada"}, headers=headers).status_code

    assert undo() == undo(x_page_csrf="wrong") == 403
    for header in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}):
        assert undo(x_page_csrf=csrf, **header) == 403, header
    for name, value in (("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")):
        assert stranger.get("/api/facts", headers={name: value}).status_code == 403, value
    assert undo(x_page_csrf=csrf, origin=f"http://localhost:{PORT}") == 200
    large = stranger.post("/api/undo", content=b"x" * (MAX_BODY_BYTES + 1), headers={"x-page-csrf": csrf})
    assert large.status_code == 413
    for digits in (13, 5000):
        told = refusal_of("POST", 0, {"host": known.hosts[0], "cookie": f"{known.cookie}={known.token}",
                          "x-page-csrf": known.csrf, "content-length": "9" * digits}, known)  # fmt: skip
        assert told is not None and told.status == 413, digits
    answers = (first, stranger.get("/api/facts"), stranger.get("/nowhere"), stranger.get("/", headers={"host": "x"}))
    assert all(answer.headers.get(name) == value for answer in answers for name, value in HEADERS.items())


@pytest.mark.parametrize(
    "path",
    ["/page/..%2fapp.py", "/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/", "/picture/../app.py",
     "/picture/..%2f..%2fetc%2fpasswd", "/picture/", "/page/index.html%00", "/picture/%00", "/api/picture/' OR 1=1 --"],
)  # fmt: skip
def test_no_path_leads_to_a_file(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_rejected_pictures_come_from_the_tars_that_were_curated_as_they_are_and_no_page_or_drawing_does(
    desk: Desk, client: TestClient
) -> None:
    items = client.post("/api/gallery", json={"num": 200}).json()["items"]
    sent = {item["uid"]: client.get(f"/picture/{item['uid']}") for item in items}
    shown = {uid: answer for uid, answer in sent.items() if answer.status_code == 200}
    keys = {uid: client.get(f"/api/picture/{uid}").json()["key"] for uid in shown}
    found = {keys[uid]: answer.content for uid, answer in shown.items()}
    assert found == {f"{i:05d}": colourful(i) if i % 2 else grey(i) for i in range(8)}
    assert {answer.headers["content-type"] for answer in shown.values()} == {"image/jpeg"}
    (hidden,) = [item for item in items if sent[item["uid"]].status_code != 200]
    assert (hidden["rejected_by"], sent[hidden["uid"]].text) == ("unreadable", "not shown: unreadable")
    assert content_type(b"<svg xmlns='http://www.w3.org/2000/svg'/>") is None
    assert content_type(b"<!doctype html><html>") is None and content_type(b"") is None
    assert content_type(b"GIF89a" + b"<script>alert(1)</script>") == "image/gif"  # never anything but a picture


def test_captions_are_text_that_can_be_searched(desk: Desk, client: TestClient) -> None:
    desk.start().join()
    found = client.post("/api/gallery", json={"caption": "<SCRIPT>"}).json()
    assert (found["total"], found["fraction_read"]) == (1, 1.0)
    told = client.get(f"/api/picture/{found['items'][0]['uid']}")
    assert told.headers["content-type"] == "application/json" and told.json()["captions"] == [HOSTILE[0]]
    (right,) = client.post("/api/gallery", json={"caption": "right-to-left"}).json()["items"]
    captions = client.get(f"/api/picture/{right['uid']}").json()["captions"]
    assert captions == ["right-to-left gnp.exe and [31mred[0m"]
    (long,) = client.post("/api/gallery", json={"caption": "long long long"}).json()["items"]
    assert len(client.get(f"/api/picture/{long['uid']}").json()["captions"][0]) <= 2000
    assert client.post("/api/gallery", json={"caption": "' OR 1=1 --"}).json()["total"] == 0


def test_a_session_labels_takes_back_lists_and_writes(desk: Desk, client: TestClient) -> None:
    state = client.get("/api/state").json()
    assert (state["reviewer"], state["num_left"], state["num_done"]) == ("ada", 6, 0)
    one, other = state["queue"][:2]
    give = {"label": "single", "reviewer": "ada", "from_queue": True}
    assert client.post("/api/label", json=give | {"uids": [one["uid"]]}).json()["num_left"] == 5
    client.post("/api/label", json=give | {"uids": [other["uid"]], "label": "own-word"})
    client.post("/api/label", json=give | {"uids": [other["uid"]], "reviewer": "bob", "from_queue": False})
    undone = client.post("/api/undo", json={"reviewer": "ada"}).json()
    assert (undone["uid"], undone["label"], undone["num_left"]) == (other["uid"], "own-word", 5)
    labels = read_labels(desk.labels.path)
    assert {(label.uid, label.label, label.reviewer, label.stratum, label.probability) for label in labels} == {
        (one["uid"], "single", "ada", one["stratum"], one["probability"]),
        (other["uid"], "single", "bob", *hand_picked("")),
    }
    client.post("/api/label", json=give | {"uids": [other["uid"]]})
    (pair,) = client.get("/api/agreement").json()
    assert (pair["reviewers"], pair["num"], pair["kappa"]) == (["ada", "bob"], 1, None)
    listed = client.post("/api/selection", json={"name": "kept", "query": {"verdict": "kept"}}).json()
    kept = [uid for (uid,) in desk.table.ask("SELECT uid FROM rows WHERE kept")]
    assert Path(listed["path"]).read_text().split() == kept
    for path, body in (
        ("/api/label", give | {"uids": ["f" * 32]}), ("/api/label", give | {"uids": [one["uid"]], "label": "No Word"}),
        ("/api/label", give | {"uids": [one["uid"]], "reviewer": "\x1b[2J"}), ("/api/label", {"uid": "x"}),
        ("/api/selection", {"name": "../up"}), ("/api/recipe", {"name": "x", "limits": {"a.b": {"min": 1}}}),
        ("/api/gallery", {"limits": {"colour.mean_channel_std": {"min": "x"}}}), ("/api/gallery", {"num": 100_000}),
    ):  # fmt: skip
        answer = client.post(path, json=body)
        assert answer.status_code == 400 and answer.json()["error"], body
    assert client.get("/api/whatif?q=%7B").status_code == 400
    values = client.get("/api/whatif", params={"q": json.dumps({"limits": {"colour.toning_residual": None}})}).json()
    assert [one["name"] for one in values["criteria"]] == ["colour.mean_channel_std"]
    assert len(client.get("/api/map").json()["uids"]) == 8


def test_a_label_is_durable_and_what_a_power_cut_left_of_one_is_taken_for_none(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    mine, theirs = Labels(path), Labels(path)
    mine.give([A], "single", "ada", hand_picked)
    assert [label.uid for label in theirs.standing()] == [A]
    with path.open("a") as file:
        file.write('{"id": "0123')
    assert [label.uid for label in Labels(path).standing()] == [A]
    theirs.give([B], "group", "bob", hand_picked)
    assert [label.uid for label in mine.standing()] == [A, B] == [label.uid for label in read_labels(path)]
    path.write_text(path.read_text().rstrip("\n"))  # an editor's way
    add(path, [Label(C, "grey", "ada", "t")])
    assert [label.uid for label in mine.standing()] == [A, B, C]
    assert mine.undo("nobody") is None
    path.write_text("{}\n")
    with pytest.raises(UsageError, match=r"labels\.jsonl, line 1"):
        Labels(path).standing()


@pytest.mark.slow
def test_forgetting_reaches_labels_wherever_they_lie_and_other_commands_let_them_be(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, num_images=6)
    desks = [open_desk(run, Choices("ada", labels=place)) for place in (None, tmp_path / "mine" / "own.jsonl")]
    uids = [one.uid for one in desks[0].queue][:3]
    for desk in desks:
        for uid in uids:
            desk.give([uid], "single", "ada", from_queue=True)
        desk.labels.undo("ada")
        desk.select("chosen", None, uids)
        (desk.labels.path.parent / "notes.md").write_text(uids[1])  # somebody's own
    listed_elsewhere = desks[1].labels.path.with_name("takedowns.txt")
    listed_elsewhere.write_text(f"# a letter\nuid:{uids[1]}\n")
    (tmp_path / "mine" / "other.jsonl").write_text(f'{{"uid": "{uids[1]}"}}\n')
    with pytest.raises(UsageError, match="no list of uids"):
        desks[1].select("takedowns", None, uids)
    apart = open_desk(run, Choices("ada", labels=run / "review" / "apart.jsonl"))
    apart.give(uids, "single", "ada", from_queue=False)
    desks[0].labels.path.with_name("labels.jsonl").rename(desks[0].labels.path.with_name("kept.jsonl"))
    assert verify(run, ALONE).ok and not collect(run).removed
    (tmp_path / "list.txt").write_text("".join(f"uid:{uid}\n" for uid in uids[1:]))
    _, receipt = forget(run, read_list(tmp_path / "list.txt"))
    assert receipt["not_reached"] == {}
    assert [label.uid for label in apart.labels.standing()] == uids[:1]
    desks[0].labels.path.with_name("kept.jsonl").rename(desks[0].labels.path)
    assert uids[1] in listed_elsewhere.read_text() and uids[1] in (tmp_path / "mine" / "other.jsonl").read_text()
    for desk in desks:
        listed = (desk.labels.path.parent / "chosen.txt").read_text().split()
        assert [label.uid for label in desk.labels.standing()] == listed == uids[:1]
        assert len(desk.labels.path.read_text().splitlines()) == 1  # nor what took one of theirs back
        with pytest.raises(UsageError, match="was forgotten"):
            desk.give(uids[1:2], "single", "ada", from_queue=True)
        for wrong in (uids[1], "f" * 32, "../../nonsense\nx"):
            with pytest.raises(UsageError, match=r"was forgotten|no picture of this run"):
                desk.select("after", None, [uids[0], wrong])
        path, num = desk.select("found", Query(), ())
        assert num == len(path.read_text().split()) > 0 and not set(uids[1:]) & set(path.read_text().split())
        assert isinstance(desk.pictures.picture(uids[1]), str)
        desk.give(uids[:1], "group", "ada", from_queue=True)
        add(desk.labels.path, [Label(uids[1], "single", "bob", "t")])
        desk.close()
    assert {fault.file for fault in verify(run, ALONE).faults} == {str(desk.labels.path) for desk in desks}
    desks[1].labels.path.rename(tmp_path / "moved.jsonl")  # named, not passed over
    assert [path for path in reach(run).not_reached if path.endswith("mine/own.jsonl")]


def test_what_cannot_be_reviewed_is_said(tmp_path: Path, desk: Desk) -> None:
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Any, Choices, str]] = [
        (tmp_path / "empty", Choices("ada"), "no manifest"),
        (desk.reviewed.run, Choices(" "), "reviewer"),
        (desk.reviewed.run, Choices("ada", labels=tmp_path / "labels.json"), r"ends in \.jsonl"),
        (desk.reviewed.run, Choices("ada", labels=tmp_path / "labels"), r"ends in \.jsonl"),
        (desk.reviewed.run, Choices("ada", words=("No",)), "label 'No'"),
        (desk.reviewed.run, Choices("ada", source=tmp_path / "gone"), "no such folder"),
    ]
    for run, choices, words in cases:
        with pytest.raises(UsageError, match=words):
            open_desk(run, choices)
