#!/usr/bin/env bash
# Run a command, and again for as long as it ends with 75: "stopped on request, everything is saved".
#
#   scripts/restart.sh python launch.py --config=configs/celeba_residual.py --workdir=gs://BUCKET/run
#
# SIGTERM and SIGINT are passed on to the command; it is then not run again (the machine is going away), and its exit code
# is this script's: 75 tells a scheduler (SLURM, Cloud Batch, Kubernetes, tpu_queue.sh) to start the same job again.
# JAXDIFF_RESTARTS (100): how often at most. JAXDIFF_RESTART_SECONDS (10): pause between two runs.
set -u
if [ $# -eq 0 ]; then
  echo "usage: $0 COMMAND [ARGUMENT...]" >&2
  exit 2
fi
restarts=${JAXDIFF_RESTARTS:-100}
pause=${JAXDIFF_RESTART_SECONDS:-10}
stopping=0
child=

pass_on() {
  stopping=1
  if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null; fi
}
trap pass_on TERM INT

for ((run = 0; ; run++)); do
  "$@" &
  child=$!
  # A signal ends `wait` early: wait again until the command itself is over.
  while :; do
    wait "$child"
    status=$?
    kill -0 "$child" 2>/dev/null || break
  done
  child=
  if [ "$status" -ne 75 ] || [ "$stopping" -eq 1 ] || [ "$run" -ge "$restarts" ]; then exit "$status"; fi
  echo "restart.sh: saved and stopped, run $((run + 1)) of at most $restarts more in $pause s" >&2
  sleep "$pause"
done
