"""Runs the whole main job on the demo corpus through the command line, then adds up what became of every picture."""

import argparse
import csv
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from curation.dataset.manifest import Manifest, read_manifest
from curation.interrupts import Terminated, heed_sigterm
from curation.measure.filter_set import lacking_weights
from curation.recipe.recipe import load_recipe
from demo.corpus import Corpus, build
from demo.server import DemoServer, serve
from filters.weights import catalogue

RECIPE = Path(__file__).parent.parent / "configs" / "demo.toml"
PREFERRED_PORT = 18_763
"""A fixed port gives the same URLs, and so the same identities and bytes, each time the demo runs."""
OWN_SERVER = ("--allow-loopback", "--waiver", "the demo made every picture itself, or took it from installed packages")
STAGES = ("rank", "fetch", "curate", "pack")
PUBLISHED = "facecaptionhq-4m"
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
CASCADE_NOTE = """\
The LBP cascade of the published method was NOT exercised here: no package on PyPI carries it, so the filter
`drawn` stood in for it. It told the portraits in coloured pencil; in the cartoons the face detector finds no face, so
`faces` turned them away before `drawn` was asked. To run the published detectors on the pictures that were fetched:
"""

console = Console(highlight=False, soft_wrap=True)


class DemoError(Exception):
    """The demo cannot start, or what it made does not add up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 where every stage finished and every row is accounted for, 130 or 143 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m demo.run", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for the corpus and the run")
    parser.add_argument("--workers", type=int, default=2, help="shards worked on at once; 0 runs without Ray")
    chosen = parser.parse_args(arguments)
    started, is_terminated = time.monotonic(), heed_sigterm()
    try:
        run_demo(chosen.out, chosen.workers)
    except KeyboardInterrupt:
        console.print(
            "\ndemo: interrupted; what is committed stays, and the demo, called again, goes on there", style="bold red"
        )
        return EXIT_TERMINATED if is_terminated() else EXIT_INTERRUPTED
    except DemoError as error:
        console.print(f"\ndemo: {error}", style="bold red", markup=False)
        return 1
    console.print(f"\nDone in {time.monotonic() - started:.0f} s.", style="bold")
    return 0


def run_demo(out: Path, num_workers: int) -> None:
    """Build the corpus, run all stages, and print what came of it.

    Raises:
        DemoError: a stage failed, or the counts of two stages do not meet.
    """
    run, images = out / "run", out / "corpus" / "images"
    images.mkdir(parents=True, exist_ok=True)
    with _server(out / "corpus") as server:
        _heading("corpus: real photos from installed packages, and what was made of them")
        with console.status("making pictures"):
            corpus = build(out / "corpus", server.base_url)
        rows = f"{corpus.num_facecaption_rows} FaceCaption rows, {corpus.num_laion_rows} LAION rows"
        console.print(f"{corpus.num_offers} URLs, {rows}, served at {server.base_url}")
        console.print("Both tables hold rows that the other lacks and rows that are damaged, as those of the web do.")
        run_stages(corpus, run, num_workers)
    manifests = {stage: read_manifest(run / stage, stage) for stage in STAGES}
    _heading("what became of every image")
    console.print(funnel(manifests))
    console.print(labels(corpus.truth, run))
    require_conservation(manifests, run)
    console.print("Conservation holds: every metadata row and every image is accounted for at every stage.")
    _heading("weights that judged")
    console.print(weights(manifests["curate"]))
    console.print(CASCADE_NOTE, markup=False)
    for line in published(run / "fetch", out / "published" / "curate", lacking_weights(load_recipe(PUBLISHED))):
        console.print(f"    {line}", markup=False)
    _heading("where things lie")
    for what, where in _places(out, run):
        console.print(f"{what:<30}{where}")
    console.print(
        f"\nLook at the report in a browser: {(run / 'report' / 'index.html').resolve().as_uri()}", markup=False
    )


def published(fetched: Path, target: Path, lacking: Sequence[str]) -> list[str]:
    """Return what to type for the published detectors, the weights that are not here first."""
    terms = {entry.name: entry.terms for entry in catalogue()}
    pulls = [f"facecaptionhq models pull {name}{' --accept' if terms.get(name) else ''}" for name in lacking]
    return [*pulls, f"facecaptionhq curate {fetched} {target} --recipe {PUBLISHED}"]


def run_stages(corpus: Corpus, run: Path, num_workers: int) -> None:
    """Run every stage as a command of its own.

    Raises:
        DemoError: a command is missing or fails.
    """
    recipe, workers = ("--recipe", str(RECIPE)), ("--workers", str(num_workers))
    for title, command in (
        (
            "rank: join both metadata sets, keep the largest",
            ("rank", corpus.facecaption, corpus.laion, run / "rank", *recipe),
        ),
        (
            "fetch: every picture from a real web server",
            ("fetch", run / "rank", run / "fetch", *recipe, *workers, *OWN_SERVER),
        ),
        ("curate: measure, judge, remember", ("curate", run / "fetch", run / "curate", *recipe, *workers)),
        ("pack: final WebDataset shards", ("pack", run / "curate", run / "pack", *recipe, *workers)),
        ("report: one page about the run", ("report", run)),
        ("verify: derive everything again from disk", ("verify", run, *workers)),
    ):
        _heading(title)
        _facecaptionhq([str(part) for part in command])


def funnel(manifests: dict[str, Manifest]) -> Table:
    """Return stage by stage how many images came in, stayed, and went, with who rejected them and why."""
    table = Table("stage", "seen", "kept", "rejected by", "reason", "count")
    for stage, manifest in manifests.items():
        reasons = [
            (by, reason, str(count)) for by, counts in manifest.rejected.items() for reason, count in counts.items()
        ]
        table.add_row(stage, str(manifest.num_seen), str(manifest.num_kept), *(reasons[0] if reasons else ("", "", "")))
        for by, reason, count in reasons[1:]:
            table.add_row("", "", "", by, reason, count)
        table.add_section()
    return table


def labels(truth: Path, run: Path) -> Table:
    """Return for each label how many of its pictures were kept, and who rejected the others."""
    verdicts: dict[str, str] = {}
    for stage in ("rank", "fetch", "curate"):
        for path in sorted((run / stage).glob("*.parquet")):
            if path.stem == "findings" or (stage == "rank" and path.stem != "ledger"):
                continue
            for row in pq.read_table(path, columns=["url", "rejected_by"], partitioning=None).to_pylist():
                verdicts[_path_of(row["url"])] = row["rejected_by"] or "kept"
    with truth.open(newline="", encoding="utf-8") as file:
        counts = Counter((row["label"], verdicts.get(row["path"], "unknown")) for row in csv.DictReader(file))
    everyone = sorted({verdict for _, verdict in counts}, key=lambda verdict: (verdict != "kept", verdict))
    table = Table("what the metadata promised", *everyone)
    for label in sorted({label for label, _ in counts}):
        table.add_row(label, *(str(counts[label, verdict] or "") for verdict in everyone))
    return table


def weights(manifest: Manifest) -> Table:
    """Return name, licence and sha256 of the weights that a stage used."""
    licences = {entry.name: entry.licence for entry in catalogue()}
    table = Table("weights", "licence", "sha256")
    for name, sha256 in manifest.weights.items():
        table.add_row(name, licences.get(name, "unstated"), sha256[:16])
    return table


def require_conservation(manifests: dict[str, Manifest], run: Path) -> None:
    """Make sure that nothing was lost: within each stage, between stages, and among the metadata rows.

    Raises:
        DemoError: something was.
    """
    for stage, manifest in manifests.items():
        num_rejected = sum(sum(reasons.values()) for reasons in manifest.rejected.values())
        if manifest.failed or manifest.num_seen != manifest.num_kept + num_rejected:
            raise DemoError(f"{stage}: {manifest.num_seen} seen, {manifest.num_kept} kept, {num_rejected} rejected")
    for (before, giving), (after, taking) in pairwise(manifests.items()):
        if giving.num_kept != taking.num_seen:
            raise DemoError(f"{before} kept {giving.num_kept} images, but {after} saw {taking.num_seen}")
    ledger = pq.read_table(run / "rank" / "ledger.parquet", partitioning=None)
    for name in ("num_facecaption_rows", "num_laion_rows"):
        counted, read = sum(ledger[name].to_pylist()), manifests["rank"].extra[name]
        if counted != read:
            raise DemoError(f"rank: the ledger accounts for {counted} {name}, but {read} were read")


@contextmanager
def _server(corpus: Path) -> Iterator[DemoServer]:
    """Serve the corpus on the port that its metadata names, else on the preferred one, else on any."""
    note = corpus / "port.txt"
    ports = (int(note.read_text()),) if note.is_file() else (PREFERRED_PORT, 0)
    with ExitStack() as stack:
        for port in ports:
            with suppress(OSError):
                server = stack.enter_context(serve(corpus / "images", port))
                break
        else:
            raise DemoError(f"port {ports[0]} is taken, but the run in {corpus.parent} needs it; give another --out")
        note.write_text(server.base_url.rpartition(":")[2])
        yield server


def _facecaptionhq(arguments: list[str]) -> None:
    command = Path(sys.executable).parent / "facecaptionhq"
    if not command.is_file():
        raise DemoError(f"{command} is missing; run `make setup` first")
    console.print(f"$ {shlex.join(['facecaptionhq', *arguments])}", style="dim", markup=False)
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    code = run_command([str(command), *arguments], environment)
    if code != 0:
        raise DemoError(f"facecaptionhq {arguments[0]} ended with exit code {code}")


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end and return its code; SIGTERM goes on to it, and it ends before this process does.

    Ctrl-C on a terminal reaches both by itself.
    """
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt, Terminated):
            process.terminate()
        process.wait()
        raise


def _heading(text: str) -> None:
    console.print(f"\n== {text}", style="bold", markup=False)


def _path_of(url: str | None) -> str:
    return "/" + (url or "").partition("://")[2].partition("/")[2]


def _places(out: Path, run: Path) -> tuple[tuple[str, Path], ...]:
    return (
        ("report", run / "report" / "index.html"),
        ("final shards", run / "pack"),
        ("ledger of every image", run / "curate"),
        ("selection and its ledger", run / "rank"),
        ("the pictures and their truth", out / "corpus" / "truth.csv"),
    )


if __name__ == "__main__":
    sys.exit(main())
