#!/usr/bin/env bash
# Curates a folder of shards as a job of a Ray cluster: the driver runs on the cluster and outlives this shell.
#
#   RAY_API=http://127.0.0.1:8265 docs/examples/curate-job.sh SOURCE TARGET [WORKERS] [more options of `curate`]
#
# SOURCE and TARGET must mean the same on every node: a bucket (s3://...), or a folder that all of them mount. The
# cluster's token is read as Ray reads it (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token). Submitting the same
# job again after any failure finishes what is left; a second one at the same time is turned away by the lease.
set -euo pipefail
source=$1 target=$2 workers=${3:-8}
export RAY_AUTH_MODE=token
exec ray job submit --address "${RAY_API:-http://127.0.0.1:8265}" -- \
  facecaptionhq curate "$source" "$target" --ray-address auto --workers "$workers" --log-json - "${@:4}"
