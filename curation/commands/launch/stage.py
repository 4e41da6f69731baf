"""Writes what a launcher takes, filled in for one curation, and hands it over."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from curation.commands.launch import kuberay, slurm
from curation.commands.launch.job import FleetJob
from curation.errors import ClusterError, UsageError
from curation.recipe.validation import choices

SUBMITTED: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "slurm": ("sbatch", "ray.sbatch"),
        "slurm-array": ("bash", "array.sh"),
        "kuberay": ("kubectl", "apply", "-f", "rayjob.yaml"),
        "ray": ("bash", "submit.sh"),
    }
)
"""Launcher -> the call that hands its files over, in the folder where they lie."""
PROGRAMS: Mapping[str, str] = MappingProxyType(
    {"slurm": "sbatch", "slurm-array": "sbatch", "kuberay": "kubectl", "ray": "ray"}
)
"""Launcher -> its own program, which a script may stand before."""


def files_of(launcher: str, job: FleetJob) -> dict[str, str]:
    """Return a launcher's files by name; paths in scripts are absolute, those for containers as they were given.

    Raises:
        UsageError: there is no such launcher.
    """
    if launcher not in SUBMITTED:
        raise UsageError(f"launch {launcher}: no such launcher; {choices(launcher, list(SUBMITTED))}")
    if launcher == "kuberay":
        return kuberay.manifests(job)
    job = job.from_anywhere()
    return {"slurm": slurm.on_ray, "slurm-array": slurm.as_array, "ray": _submission}[launcher](job)


def warnings_of(launcher: str, job: FleetJob) -> Iterator[str]:
    """Yield what has to be seen to before the files are handed over."""
    if launcher == "kuberay" and (places := kuberay.unmounted(job)):
        yield (
            f"{', '.join(places)}: no pod sees that, for the manifests mount nothing there; give addresses such as "
            f"s3://bucket/run, or mount a volume at that path in both manifests"
        )


def write(files: Mapping[str, str], folder: Path) -> tuple[Path, ...]:
    """Write files into a folder, over those of an earlier launch, and return where they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in files)


def submit(launcher: str, folder: Path) -> None:
    """Hand the files in a folder over to their launcher.

    Raises:
        ClusterError: its program is not here, or refuses.
    """
    call, program = SUBMITTED[launcher], PROGRAMS[launcher]
    if shutil.which(program) is None:
        raise ClusterError(f"launch {launcher}: {program} is not here; take {folder} to where it is: {' '.join(call)}")
    if (code := subprocess.run(call, cwd=folder, check=False).returncode) != 0:
        raise ClusterError(f"launch {launcher}: `{' '.join(call)}` in {folder} ended with {code}")


def _submission(job: FleetJob) -> dict[str, str]:
    call = job.line("--ray-address", "auto", "--workers", str(job.num_workers), "--log-json", "-")
    text = f"""#!/usr/bin/env bash
# Submits the curation as a job of a Ray cluster; again after any failure, it finishes what is left.
set -euo pipefail
export RAY_AUTH_MODE=${{RAY_AUTH_MODE:-token}}
exec ray job submit --address "${{RAY_API:-http://127.0.0.1:8265}}" --no-wait -- \\
  {call}
"""
    return {"submit.sh": text}
