#!/usr/bin/env bash
# Start-up script of a Cloud TPU VM: installs jaxdiff and runs it, on every host of a slice alike (docs/tpu.md).
#
# Read from the VM's metadata:
#   jaxdiff-source   gs://BUCKET/jaxdiff.tar.gz, a tar of the repository
#   jaxdiff-args     arguments of launch.py, --workdir=gs://... among them
# It runs as a systemd unit of its own, so that the shutdown of a preempted VM sends it SIGTERM; output: /var/log/jaxdiff.log.
set -euo pipefail

attribute() {
  curl -sf -H "Metadata-Flavor: Google" \
    "http://${JAXDIFF_METADATA:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

home=${JAXDIFF_HOME:-/opt/jaxdiff}
if [ ! -f "$home/installed" ]; then
  apt-get update -q
  apt-get install -q -y python3.11 python3.11-venv
  mkdir -p "$home"
  gcloud storage cp "$(attribute jaxdiff-source)" "$home/source.tar.gz"
  tar -xzf "$home/source.tar.gz" -C "$home"
  python3.11 -m venv "$home/venv"
  "$home/venv/bin/pip" install -q -e "$home[tpu,gcs]"
  touch "$home/installed"
fi

attribute jaxdiff-args > "$home/args"
cat > "$home/run.sh" <<'RUN'
#!/usr/bin/env bash
cd "$(dirname "$0")"
export JAXDIFF_CACHE="$PWD/cache"
# The arguments are words for a shell, quotes and all.
eval "set -- $(cat args)"
exec scripts/restart.sh venv/bin/python launch.py "$@"
RUN
chmod +x "$home/run.sh"
systemctl reset-failed jaxdiff 2>/dev/null || true
# mixed: SIGTERM goes to restart.sh alone, which passes it on once; a second one would end the run unsaved.
systemd-run --unit=jaxdiff --property=KillMode=mixed --property=TimeoutStopSec=25 \
  --property=StandardOutput=append:/var/log/jaxdiff.log --property=StandardError=append:/var/log/jaxdiff.log \
  "$home/run.sh"
