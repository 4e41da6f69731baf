"""Scripts for Slurm: Ray over an allocation, and an array of shares without Ray that one last job joins."""

import shlex
from collections.abc import Iterator

from curation.commands.launch.job import FleetJob

FIRST_PORT, NUM_HEADS = 20_000, 5_000
"""Ports of heads, two for each, by the job's number: below those that the kernel gives out."""
ON_RAY = r"""
# The driver and Ray's head run on the first node, a Ray node on each other one. Whatever ends the job, the same script
# finishes what is left: Slurm sends TERM two minutes before the limit, and what is committed stays.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
addresses=$(srun --nodes=1 --ntasks=1 --nodelist="$first" sh -c 'hostname --ip-address; hostname --all-ip-addresses' |
  tr ' ' '\n' | sed '/^127\./d; /:/d; /^$/d')
ip=${{addresses%%$'\n'*}}  # a node's own name often means its loopback, where no other node finds it
[ -n "$ip" ] || {{ echo "$first: no IPv4 address at which others find it, by hostname -I" >&2; exit 1; }}
port=$(({first_port} + SLURM_JOB_ID % {num_heads} * 2))  # of this job: another's head may run on the same node
RAY_AUTH_TOKEN=$(od -An -N 24 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
srun --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --nodelist="$first" \
  ray start --head --node-ip-address "$ip" --port "$port" --num-cpus "$SLURM_CPUS_PER_TASK" --block \
  --include-dashboard false --ray-client-server-port "$((port + 1))" &
head=$!
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  others=$((SLURM_JOB_NUM_NODES - 1))
  srun --nodes="$others" --ntasks="$others" --cpus-per-task="$SLURM_CPUS_PER_TASK" --exclude="$first" \
    ray start --address "$ip:$port" --num-cpus "$SLURM_CPUS_PER_TASK" --block &
fi
for _ in $(seq 60); do
  ! ray status --address "$ip:$port" >/dev/null 2>&1 || break
  kill -0 "$head" 2>/dev/null || {{ echo "Ray's head on $first ended before it was up; see above" >&2; exit 1; }}
  sleep 5
done
{command} --ray-address "$ip:$port" --log-json - &
driver=$!
trap 'kill -TERM "$driver"' TERM
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do  # TERM ended the waiting, and not yet the driver
  code=0
  wait "$driver" || code=$?
done
exit "$code"
"""


def on_ray(job: FleetJob) -> dict[str, str]:
    """Return the script that brings Ray up over an allocation, by file name."""
    return {"ray.sbatch": _on_ray(job)}


def as_array(job: FleetJob) -> dict[str, str]:
    """Return the scripts of an array of shares without Ray, by file name."""
    return {"array.sbatch": _array(job), "join.sbatch": _join(job), "array.sh": ARRAY}


ARRAY = """#!/usr/bin/env bash
# Submits the shares, and the job that joins them once all are done: bash array.sh
set -euo pipefail
cd "$(dirname "$0")"
shares=$(sbatch --parsable array.sbatch)
shares=${shares%%;*}  # where there are several clusters, the cluster's name follows
echo "Submitted batch job $shares, the shares; the job that joins them:"
sbatch --dependency="afterok:$shares" --kill-on-invalid-dep=yes join.sbatch
"""


def _on_ray(job: FleetJob) -> str:
    asked = [f"--nodes={job.num_nodes}", "--ntasks-per-node=1", f"--cpus-per-task={_num_cpus(job)}"]
    asked += [f"--mem={job.node_gib}G", "--signal=B:TERM@120", "--requeue"]
    asked += [f"--gpus-per-node={job.num_node_gpus}"] if job.num_gpus else []
    body = ON_RAY.format(
        first_port=FIRST_PORT, num_heads=NUM_HEADS, command=job.line("--workers", str(job.num_workers))
    )
    return _script("facecaptionhq", asked, job, body)


def _array(job: FleetJob) -> str:
    """One task of the array is one worker: it needs no Ray, and no other task."""
    asked = [f"--array=1-{job.num_workers}", "--ntasks=1", "--cpus-per-task=1", f"--mem={job.gib_per_worker}G"]
    asked += ["--signal=B:TERM@120", "--requeue", *(["--gpus-per-task=1"] if job.num_gpus else [])]
    reads, does = shlex.join(["facecaptionhq", "curate", job.source]), shlex.join(["--recipe", job.recipe])
    share = f'{shlex.quote(_shares(job))}/"$SLURM_ARRAY_TASK_ID"'
    body = f'\nexec {reads} {share} {does} --workers 0 --shards "$SLURM_ARRAY_TASK_ID/{job.num_workers}" --log-json -\n'
    return _script("facecaptionhq-share", asked, job, body)


def _join(job: FleetJob) -> str:
    asked = ["--ntasks=1", "--cpus-per-task=1", f"--mem={job.gib_per_worker}G", "--requeue"]
    body = f"""
joined=()
for share in $(seq {job.num_workers}); do
  joined+=(--join {shlex.quote(_shares(job))}/"$share")
done
exec {job.line("--workers", "0")} "${{joined[@]}}"
"""
    return _script("facecaptionhq-join", asked, job, body)


def _shares(job: FleetJob) -> str:
    return f"{job.target.rstrip('/')}.shares"


def _num_cpus(job: FleetJob) -> int:
    return min(job.num_node_cpus, job.num_workers)


def _script(name: str, asked: list[str], job: FleetJob, body: str) -> str:
    return "\n".join([*_head(name, asked, job), body.rstrip("\n"), ""])


def _head(name: str, asked: list[str], job: FleetJob) -> Iterator[str]:
    yield "#!/usr/bin/env bash"
    for option in (f"--job-name={name}", *asked, *([f"--time={job.limit}"] if job.limit else [])):
        yield f"#SBATCH {option}"
    yield "set -euo pipefail"
