#!/usr/bin/env bash
# Keep a spot TPU slice at work until its run is done: ask for it, and ask again whenever it was preempted.
#
#   NAME=faces ZONE=us-central1-a TYPE=v5litepod-16 RUNTIME=v2-alpha-tpuv5-lite \
#   SOURCE=gs://BUCKET/jaxdiff.tar.gz WORKDIR=gs://BUCKET/runs/faces \
#     scripts/tpu_queue.sh --config=configs/celeba_residual.py --config.data.source=records:/data/celeba
#
# A preempted spot VM cannot be started again: its queued resource becomes SUSPENDED, is deleted and made anew, and the run
# goes on from the checkpoints in WORKDIR. Over when DONE (WORKDIR/report.html) is there; the slice is then deleted.
# POLL_SECONDS (60): between two looks. ATTEMPTS (100): slices asked for at most.
set -euo pipefail
: "${NAME:?}" "${ZONE:?}" "${TYPE:?}" "${RUNTIME:?}" "${SOURCE:?}" "${WORKDIR:?}"
DONE=${DONE:-$WORKDIR/report.html}
here=$(cd "$(dirname "$0")" && pwd)
queue=(gcloud compute tpus queued-resources)

delete() { "${queue[@]}" delete "$NAME" --zone="$ZONE" --force --quiet || true; }
finished() { gcloud storage ls "$DONE" >/dev/null 2>&1; }

# Metadata from files: arguments may hold commas and quotes.
args=$(mktemp)
source_file=$(mktemp)
trap 'rm -f "$args" "$source_file"' EXIT
printf '%q ' "$@" "--workdir=$WORKDIR" > "$args"
printf '%s' "$SOURCE" > "$source_file"

for ((attempt = 1; attempt <= ${ATTEMPTS:-100}; attempt++)); do
  if finished; then break; fi
  echo "slice $attempt: $TYPE in $ZONE"
  "${queue[@]}" create "$NAME" --node-id="$NAME" --zone="$ZONE" --accelerator-type="$TYPE" \
    --runtime-version="$RUNTIME" --spot --scopes=https://www.googleapis.com/auth/cloud-platform \
    --metadata-from-file="startup-script=$here/tpu_startup.sh,jaxdiff-args=$args,jaxdiff-source=$source_file"
  while :; do
    if finished; then break; fi
    state=$("${queue[@]}" describe "$NAME" --zone="$ZONE" --format="value(state.state)")
    case "$state" in SUSPENDED | SUSPENDING | FAILED) break ;; esac
    sleep "${POLL_SECONDS:-60}"
  done
  delete
done
if finished; then
  echo "done: $DONE"
else
  echo "not done after ${ATTEMPTS:-100} slices" >&2
  exit 75
fi
