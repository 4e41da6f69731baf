"""Stops runs past their lease, lets a successor take over and finish, wakes them, and looks what they changed.

    python -m benchmarks.faults.woken [--num-trials 50] [--seed 0] [--out benchmarks/results/woken.json]

Each trial stops one command (SIGSTOP) at a random moment before or after one of its writes, on a disk and in a store
that speaks S3. The successor takes it for a run of another machine, repeats the command, and then forgets an image.
Nothing that a manifest names may have another content once the woken run has ended. A `forget` that was stopped before
it held the run, though, takes its turn after the successor: then every file must be what the same request makes of a
copy of what the successor left. Exit code 0 if so.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.gc.collect import collect
from curation.commands.pack.stage import pack
from curation.commands.verify.check import verify
from curation.dataset.manifest import MANIFEST_NAME, read_manifest
from curation.dataset.sample import uid_of_url
from curation.errors import LeaseError
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.folders import names_in
from curation.run.runner import Spread
from curation.storage import lease
from curation.storage.paths import filesystem, location
from tests.curation.shards import RECIPE, mixed_source
from tests.ports import free_ports

ALONE = Spread(num_workers=0)
STAGES = ("curate", "pack")
COMMANDS = ("curate", "pack", "decide", "forget", "gc")
NEVER = -1
REFUSED, FAILED = 75, 70
BUCKET = "woken"
FORGOTTEN = ("http://example.org/00000.jpg", "http://example.org/00001.jpg")
"""What the successor forgets, and what a woken `forget` wants gone."""
WRITES = frozenset({"put_object", "upload_part", "complete_multipart_upload", "delete_object", "delete_objects"})
Work = Callable[[], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its figures."""
    options = _options(arguments)
    started = time.monotonic()
    trials: dict[str, list[dict[str, Any]]] = {"disk": [], "s3": []}
    with tempfile.TemporaryDirectory(prefix="woken-") as folder:
        place = Path(folder)
        server = _serve(place)
        try:
            for store, trial in _campaign(place, options.num_trials, random.Random(options.seed)):
                trials[store].append(trial)
        except KeyboardInterrupt:
            print("interrupted: what was tried counts", file=sys.stderr)
        finally:
            server.kill()
            server.wait()
    faults = [fault for told in trials.values() for trial in told for fault in trial["faults"]]
    result = {
        "num_trials": {store: len(told) for store, told in trials.items()},
        "commands": {store: Counter(trial["command"] for trial in told) for store, told in trials.items()},
        "woken_ended_with": {store: Counter(str(trial["woken"]) for trial in told) for store, told in trials.items()},
        "successor_ended_with": {store: Counter(str(t["successor"]) for t in told) for store, told in trials.items()},
        "num_unnamed_files_left": {store: sum(t["num_unnamed"] for t in told) for store, told in trials.items()},
        "num_named_files_changed": len(faults),
        "faults": faults,
        "is_good": not faults,
        "seconds": round(time.monotonic() - started, 1),
        "seed": options.seed,
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if result["is_good"] else 1


def _campaign(place: Path, num_trials: int, rng: random.Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make a run to begin with, count the moments of each command, and stop each in turn at a random one."""
    source = mixed_source(place / "in", 2)
    recipes = _recipes(place)
    template = place / "template"
    _forked(lambda: _template(source, template, recipes[0]))
    moments: dict[str, int] = {}
    for number, store in product(range(num_trials), ("disk", "s3")):
        root = str(place / "disk") if store == "disk" else f"s3://{BUCKET}"
        command = COMMANDS[number % len(COMMANDS)]
        name = f"{root}/{number}"
        if f"{store} {command}" not in moments:
            _forked(lambda name=name, command=command: _prepare(f"{name}-count", template, command))
            work = _work(f"{name}-count", source, recipes, command, FORGOTTEN[1])
            moments[f"{store} {command}"] = int(_forked(lambda work=work: _counted(work, NEVER))[1])
        _forked(lambda name=name, command=command: _prepare(name, template, command))
        yield store, _trial(name, source, recipes, command, rng.randrange(moments[f"{store} {command}"]))
        if store == "disk":
            for made in (name, f"{name}-in-turn"):
                shutil.rmtree(made, ignore_errors=True)


def _trial(name: str, source: Path, recipes: Sequence[Recipe], command: str, moment: int) -> dict[str, Any]:
    """Stop one run, let another follow it, wake it."""
    victim = _fork(lambda: _counted(_work(name, source, recipes, command, FORGOTTEN[1]), moment), "victim")
    _, status = os.waitpid(victim.pid, os.WUNTRACED)
    was_stopped = os.WIFSTOPPED(status)
    successor, _ = _forked(lambda: _follow(name, source, recipes, command), "successor")
    _, before = _forked(lambda: json.dumps(_state(name)))
    takes_turn = command == "forget" and was_stopped and successor == 0
    in_turn = _forked(lambda: json.dumps(_forgotten_in_turn(name, source, recipes)))[1] if takes_turn else before
    woken = os.waitstatus_to_exitcode(status) if not was_stopped else None
    if was_stopped:
        os.kill(victim.pid, signal.SIGCONT)
        woken = os.waitstatus_to_exitcode(os.waitpid(victim.pid, 0)[1])
    _, after = _forked(lambda: json.dumps(_state(name)))
    was, is_ = json.loads(in_turn if woken == 0 else before), json.loads(after)
    told = f"{name}: {command} at moment {moment}: "
    faults: list[str] = []
    if successor == 0:
        faults = [f"{told}{file} changed" for file in was["named"] if was["named"][file] != is_["named"].get(file)]
        faults += [f"{told}{fault}" for fault in is_["faults"]]
    elif successor != REFUSED:
        faults = [f"{told}the successor ended with {successor}"]
    print(f"{told}the successor ended with {successor}, the woken run with {woken}", file=sys.stderr, flush=True)
    return {
        "command": command,
        "woken": woken,
        "successor": successor,
        "num_unnamed": len(is_["unnamed"]),
        "faults": faults,
    }


def _follow(name: str, source: Path, recipes: Sequence[Recipe], command: str) -> None:
    _work(name, source, recipes, command, FORGOTTEN[0])()
    if command != "forget":
        forget(location(name), read_requests([f"uid:{uid_of_url(FORGOTTEN[0])}"], "the successor"))


def _forgotten_in_turn(name: str, source: Path, recipes: Sequence[Recipe]) -> dict[str, Any]:
    """Return the state of a copy of a run in which what the stopped `forget` wants gone is forgotten."""
    copy = f"{name}-in-turn"
    if "://" in name:
        files, root = filesystem(location(name))
        for file in files.find(root):
            _put(copy, str(file).removeprefix(root).strip("/"), files.cat_file(file))
    else:
        shutil.copytree(name, copy)
    _work(copy, source, recipes, "forget", FORGOTTEN[1])()
    return _state(copy)


def _work(name: str, source: Path, recipes: Sequence[Recipe], command: str, forgotten: str) -> Work:
    """Return what a command does to a run."""

    def work() -> None:
        run, (recipe, stricter) = location(name), recipes
        if command == "curate":
            curate(source, run / "curate", recipe, ALONE)
        elif command == "pack":
            pack(run / "curate", run / "pack", recipe, ALONE)
        elif command == "decide":
            decide(run, stricter, ALONE, source)
        elif command == "forget":
            forget(run, read_requests([f"uid:{uid_of_url(forgotten)}"], "the campaign"))
        else:
            collect(run)

    return work


def _template(source: Path, template: Path, recipe: Recipe) -> None:
    curate(source, template / "curate", recipe, ALONE)
    pack(template / "curate", template / "pack", recipe, ALONE)


def _prepare(name: str, template: Path, command: str) -> None:
    """Lay out the run on which a command begins: without what it makes, or, for `gc`, with what a dead run left."""
    stages = {"curate": (), "pack": ("curate",), "decide": ("curate",)}.get(command, STAGES)
    for path in sorted(template.rglob("*")):
        part = path.relative_to(template)
        if path.is_file() and part.parts[0] in stages and "_lease" not in part.parts:
            _put(name, part.as_posix(), path.read_bytes())
    if command == "gc":
        for shard in range(3):
            _put(name, f"pack/_tmp/{shard:05d}.tar.dead", b"half")
            _put(name, f"pack/0009{shard}.tar", (template / "pack" / "00000.tar").read_bytes())


def _put(name: str, file: str, content: bytes) -> None:
    path = location(f"{name}/{file}")
    if "://" not in name:
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _state(name: str) -> dict[str, Any]:
    """Return the sha256 of every file that a manifest names, what nobody names, and what `verify` says."""
    run = location(name)
    named, unnamed = {}, []
    for stage in STAGES:
        folder = run / stage
        if not (folder / MANIFEST_NAME).exists():
            continue
        names = {MANIFEST_NAME, *read_manifest(folder).file_names}
        for file in sorted(names):
            named[f"{stage}/{file}"] = _sha256(folder / file)
        data = (file for file in names_in(folder) if file.endswith((".tar", ".parquet")) and "/" not in file)
        unnamed += [f"{stage}/{file}" for file in data if file not in names]
    faults = [str(fault) for fault in verify(run, ALONE).faults if not any(file in str(fault) for file in unnamed)]
    return {"named": named, "unnamed": unnamed, "faults": faults}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def _counted(work: Work, moment: int) -> int:
    """Do the work, stop before that write or after it (two moments each), and return how many moments there were."""
    passed = 0

    def tick() -> None:
        nonlocal passed
        if passed == moment:
            os.kill(os.getpid(), signal.SIGSTOP)
        passed += 1

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def call_and_tick(*args: Any, **kwargs: Any) -> Any:
            tick()
            result = call(*args, **kwargs)
            tick()
            return result

        return call_and_tick

    for owner, name in ((os, "fsync"), (os, "link"), (Path, "replace"), (Path, "unlink")):
        setattr(owner, name, watched(getattr(owner, name)))
    from s3fs import S3FileSystem

    ask = S3FileSystem._call_s3

    async def ask_and_tick(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if method in WRITES:
            tick()
        answer = await ask(self, method, *args, **kwargs)
        if method in WRITES:
            tick()
        return answer

    S3FileSystem._call_s3 = ask_and_tick
    work()
    return passed


class _Fork:
    """A fork of this process, and what it says when it has ended."""

    def __init__(self, pid: int, reader: int) -> None:
        self.pid, self.reader = pid, reader


def _fork(work: Work, who: str = "nobody") -> _Fork:
    """Work in a fork that passes for a machine of its own; leases live for a moment only."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        code = FAILED
        try:
            os.close(reader)
            lease._machine = lambda: who
            lease.BEAT_S, lease.TTL_S, lease.POLL_S = 0.2, 1.0, 0.1
            said = work()
            os.write(writer, str(said).encode())
            code = 0
        except LeaseError:
            code = REFUSED
        except BaseException as error:  # noqa: BLE001  the fork's last word
            sys.stderr.write(f"{who}: {type(error).__name__}: {error}\n")
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    return _Fork(pid, reader)


def _forked(work: Work, who: str = "nobody") -> tuple[int, str]:
    """Return the exit code of a fork and what it said."""
    fork = _fork(work, who)
    with os.fdopen(fork.reader) as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(fork.pid, 0)[1]), said


def _recipes(place: Path) -> tuple[Recipe, Recipe]:
    """Return the recipe and a stricter one; both measure in the process itself, which is the one that is stopped."""
    loaded = []
    for name, text in (("recipe", RECIPE), ("stricter", RECIPE.replace("2.0", "60.0"))):
        path = place / f"{name}.toml"
        path.write_text(text.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]"), encoding="utf-8")
        loaded.append(load_recipe(path))
    return loaded[0], loaded[1]


def _serve(place: Path) -> "subprocess.Popen[bytes]":
    """Start a server that speaks S3, make its bucket, and let this process's forks use it."""
    (port,) = free_ports(1)
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    with (place / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)
    variables: Mapping[str, str] = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    os.environ |= variables

    def make() -> None:
        files, name = filesystem(location(f"s3://{BUCKET}"))
        files.mkdir(name)

    deadline = time.monotonic() + 120
    while _forked(make)[0] != 0:
        if time.monotonic() > deadline:
            raise TimeoutError("the server does not answer")
        time.sleep(0.5)
    return server


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "woken.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
