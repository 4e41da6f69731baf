"""Kills every command that writes at random moments, runs it again, and holds the end against an undisturbed one.

    python -m benchmarks.faults.kills_of_commands [--kills 200] [--command rank ...] [--at-once 2] [--seed 0]
        [--folder /dev/shm] [--out benchmarks/results/kills_of_commands.json]

Each kill is a SIGKILL of the whole process group at a moment that is drawn evenly from the time which the command
takes; every fourth time the second attempt is killed, too. What lies there when the command has ended by itself must be
byte for byte what an undisturbed one leaves, but for times, hosts and receipts. Exit code 0 if it always is.
The work is done in forks of a process that has loaded everything already, so that a kill costs no imports, and in a
folder of memory where there is one: a killed process leaves the same files there as on a disk.
"""

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.faults.commands_to_kill import COMMANDS, KilledCommand
from benchmarks.provenance import RESULTS, commit, machine
from curation.dataset.manifest import STATS_SUFFIX
from curation.storage.lock import LEASE_FOLDER
from curation.storage.publish import SEAL, TEMP_FOLDER, read_sealed
from demo.server import serve
from tests.curation.smith import load, smith

Work = Callable[[], object]
SECOND_KILL = 0.25
"""How often the attempt after a kill is killed, too."""
LATEST = 1.1
"""Latest moment of a kill, as a multiple of the time that the command takes."""
MAX_ATTEMPTS = 20
NEVER = None
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Attempt:
    """What became of one attempt at a piece of work."""

    exit_code: int
    """-9 where it was killed."""
    seconds: float
    said: str
    """The last words of one that failed."""


class Hand:
    """Does work in forks of a process that has loaded what it needs, and kills those that are to be killed."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection

    def attempt(self, work: Work, kill_after_s: float | None = NEVER) -> Attempt:
        """Do a piece of work, or begin it and kill it after so many seconds."""
        self._connection.send((work, kill_after_s))
        attempt = self._connection.recv()
        assert isinstance(attempt, Attempt)
        return attempt


def _forked(work: Work, kill_after_s: float | None) -> Attempt:
    """Do the work in a fork, which is killed in time; then load what it had to load, for the next one."""
    reader, writer = os.pipe()
    started = time.monotonic()
    if (pid := os.fork()) == 0:
        os.setpgid(0, 0)
        logging.disable(logging.WARNING)
        code, said = 1, ""
        try:
            work()
            code, said = 0, " ".join(sys.modules)
        except BaseException as error:  # noqa: BLE001  whatever it is, the campaign tells it
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode()[:60_000])
            os._exit(code)
    os.close(writer)
    status = _end(pid, started, kill_after_s)
    seconds = time.monotonic() - started
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    if status == 0:
        load(said.split())
    return Attempt(os.waitstatus_to_exitcode(status), seconds, "" if status == 0 else said)


def _end(pid: int, started: float, kill_after_s: float | None) -> int:
    """Wait for a fork to end, at the latest by our own hand, and return its status."""
    if kill_after_s is not NEVER:
        while time.monotonic() < started + kill_after_s:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and write its counts."""
    options = _options(arguments)
    started = time.monotonic()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="kills-", dir=options.folder) as name:
        folder = Path(name)
        (folder / "web").mkdir()
        with serve(folder / "web") as server, ThreadPoolExecutor(options.at_once) as pool:
            strike = partial(campaign, folder=folder, url=server.base_url, num_kills=options.kills, seed=options.seed)
            results = dict(zip(options.command, pool.map(strike, options.command), strict=True))
    result = {
        "is_good": all(not counts["faults"] for counts in results.values()),
        "num_kills": sum(counts["num_kills"] for counts in results.values()),
        "commands": results,
        "seed": options.seed,
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0 if result["is_good"] else 1


def campaign(name: str, folder: Path, url: str, num_kills: int, seed: int) -> dict[str, Any]:
    """Kill one command so often, and count what became of it."""
    command, place = COMMANDS[name], folder / name
    before, dice, counts = place / "before", random.Random(f"{seed} {name}"), Counter[str]()
    command.prepare(before, folder / "web", url)
    with smith(_forked) as connection:
        hand = Hand(connection)
        expected, seconds = _undisturbed(command, before, place, hand)
        faults: list[str] = []
        while counts["kills"] < num_kills:
            here = Path(shutil.copytree(before, place / "struck"))
            faults += _strike(command, here, expected, seconds, dice, counts, hand)
            shutil.rmtree(here)
    return {
        "num_kills": counts["kills"],
        "num_ended_before_the_kill": counts["ended before the kill"],
        "num_killed_twice_and_more": counts["killed again"],
        "num_ends_compared": counts["ends compared"],
        "num_temporary_files_left": counts["temporary files left"],
        "num_files": len(expected),
        "seconds_of_one_run": round(seconds, 3),
        "faults": faults,
    }


def _undisturbed(command: KilledCommand, before: Path, place: Path, hand: Hand) -> tuple[dict[str, bytes], float]:
    """Return what the command leaves and how long it takes; it must leave the same twice."""
    ends = []
    for _ in range(3):  # the first one loads what the others need
        here = Path(shutil.copytree(before, place / "whole"))
        attempt = hand.attempt(partial(command.work, here))
        if attempt.exit_code != 0:
            raise RuntimeError(f"{command.name} fails undisturbed: {attempt.said}")
        ends.append(end_of(here))
        shutil.rmtree(here)
    if different := differing(ends[1], ends[2]):
        raise RuntimeError(f"{command.name} leaves other bytes each time, so nothing can be compared: {different}")
    return ends[2], attempt.seconds


def _strike(
    command: KilledCommand, here: Path, expected: Mapping[str, bytes], seconds: float, dice: random.Random,
    counts: Counter[str], hand: Hand,
) -> list[str]:  # fmt: skip
    """Kill the command once or more, let it end, and return what is wrong with what lies there then."""
    work, moments = partial(command.work, here), list[float]()
    for number in range(MAX_ATTEMPTS):
        is_struck = number == 0 or (bool(moments) and dice.random() < SECOND_KILL)
        moment = dice.uniform(0, LATEST * seconds) if is_struck else NEVER
        attempt = hand.attempt(work, moment)
        if attempt.exit_code == -signal.SIGKILL and moment is not NEVER:
            counts["kills"] += 1
            counts["killed again"] += bool(moments)
            moments.append(round(moment, 4))
            continue
        counts["ended before the kill"] += is_struck
        break
    what = f"killed after {moments} s"
    if attempt.exit_code != 0:
        return [f"{what}, and run again it fails ({attempt.exit_code}): {attempt.said[-300:]}"]
    counts["ends compared"] += 1
    counts["temporary files left"] += sum(TEMP_FOLDER in path.parts for path in here.rglob("*") if path.is_file())
    different = differing(expected, end_of(here))
    return [f"{what}, and run again it leaves other bytes: {different}"] if different else []


def end_of(folder: Path) -> dict[str, bytes]:
    """Return the content of every file that counts, without what may differ between equal runs."""
    return {
        path.relative_to(folder).as_posix(): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {LEASE_FOLDER, TEMP_FOLDER} & {*path.parts} and not path.name.startswith("receipt-")
    }


def _content(path: Path) -> bytes:
    """Return a file's bytes; of a done record, those of all but its times and hosts."""
    if not path.name.endswith(STATS_SUFFIX) or path.parent.name == "input":
        return path.read_bytes()
    values = {name: value for name, value in read_sealed(path).items() if name not in ("run", SEAL)}
    return json.dumps(values, sort_keys=True).encode()


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """Return the names of files that only one of two folders holds, or both with other bytes."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of each command")
    parser.add_argument("--command", nargs="+", choices=tuple(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--at-once", type=int, default=2, help="commands that are struck at once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=MEMORY if MEMORY.is_dir() else None, help="where to work")
    parser.add_argument("--out", type=Path, default=RESULTS / "kills_of_commands.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
