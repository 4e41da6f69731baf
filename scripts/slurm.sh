#!/usr/bin/env bash
# Runs the test that needs a real Slurm against one of a single node, in a container that may be thrown away, as root:
#   apt-get install -y --no-install-recommends slurm-wlm munge
#   scripts/slurm.sh [COMMAND...]    # by default that test; the daemons end with it
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(hostname -s)
mkdir -p /etc/slurm /run/munge /var/spool/slurm/{ctld,d} /var/log/slurm
chown munge: /run/munge
[ -s /etc/munge/munge.key ] || mungekey --create
cat >/etc/slurm/slurm.conf <<END
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
StateSaveLocation=/var/spool/slurm/ctld
SlurmdSpoolDir=/var/spool/slurm/d
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=6000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=1:00:00 State=UP
END
echo CgroupPlugin=cgroup/v1 >/etc/slurm/cgroup.conf # named, not used: where none is, slurmd would not start
daemons=()
end() { kill "${daemons[@]}" 2>/dev/null || true; }
trap end EXIT
setpriv --reuid munge --regid munge --init-groups munged --foreground 2>/var/log/slurm/munged.log &
daemons+=($!)
sleep 2
slurmctld -D -c >/var/log/slurm/slurmctld.log 2>&1 &
daemons+=($!)
slurmd -D >/var/log/slurm/slurmd.log 2>&1 &
daemons+=($!)
for _ in $(seq 60); do
  [ "$(timeout 5 sinfo --noheader --format %T 2>/dev/null)" != idle ] || break
  sleep 1
done
sinfo --version
sinfo
[ $# -gt 0 ] || set -- python -m pytest -q -rs -m slow tests/curation/commands/launch/test_slurm.py
"$@"
