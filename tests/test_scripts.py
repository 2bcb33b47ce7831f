"""The shell scripts that keep a run going, with commands that only pretend."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
RESTART = str(SCRIPTS / "restart.sh")


def script(path, text):
    path.write_text("#!/usr/bin/env bash\n" + text)
    path.chmod(0o755)
    return str(path)


def environment(**more):
    return {**os.environ, "JAXDIFF_RESTART_SECONDS": "0", **more}


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash(path):
    assert subprocess.run(["bash", "-n", str(path)], capture_output=True).returncode == 0
    assert os.access(path, os.X_OK)


def test_a_saved_run_is_run_again_until_it_is_done(tmp_path):
    counts = tmp_path / "counts"
    command = script(
        tmp_path / "run", f'echo "$@" >> {counts}; [ $(wc -l < {counts}) -ge 3 ] && exit 0; exit 75\n'
    )
    done = subprocess.run([RESTART, command, "a b", "c"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and counts.read_text() == "a b c\n" * 3


@pytest.mark.parametrize(("code", "limit", "runs"), [(2, 9, 1), (1, 9, 1), (75, 2, 3), (0, 9, 1)])
def test_other_exit_codes_and_too_many_restarts_end_it(tmp_path, code, limit, runs):
    counts = tmp_path / "counts"
    command = script(tmp_path / "run", f"echo x >> {counts}; exit {code}\n")
    done = subprocess.run(
        [RESTART, command], env=environment(JAXDIFF_RESTARTS=str(limit)), capture_output=True
    )
    assert done.returncode == code and counts.read_text() == "x\n" * runs


def test_sigterm_is_passed_on_once_and_the_command_is_not_run_again(tmp_path):
    log = tmp_path / "log"
    # Saves for a while after the signal, as a real run does.
    text = f"trap 'echo signal >> {log}; sleep 0.3; echo saved >> {log}; exit 75' TERM\n"
    command = script(tmp_path / "run", text + f"echo started >> {log}; while :; do sleep 0.05; done\n")
    process = subprocess.Popen([RESTART, command], env=environment())
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 75
    assert log.read_text() == "started\nsignal\nsaved\n"


def test_a_preempted_slice_is_asked_for_again_until_the_report_is_there(tmp_path):
    """gcloud, pretended: the first slice is preempted, the second one finishes the run."""
    state, log = tmp_path / "creates", tmp_path / "log"
    gcloud = f"""
echo "$@" >> {log}
case "$*" in
  *" create "*)
    echo x >> {state}
    for item in $(echo "${{@: -1}}" | cut -d= -f2- | tr , ' '); do
      case "$item" in jaxdiff-args=*) cp "${{item#*=}}" {tmp_path}/args ;; esac
    done ;;
  *" describe "*) [ $(wc -l < {state}) -ge 2 ] && echo ACTIVE || echo SUSPENDED ;;
  "storage ls"*) [ -f {state} ] && [ $(grep -c describe {log}) -ge 3 ] ;;
esac
"""
    script(tmp_path / "gcloud", gcloud)
    wanted = {
        "NAME": "faces",
        "ZONE": "z",
        "TYPE": "v5litepod-16",
        "RUNTIME": "v2",
        "SOURCE": "gs://b/s.tar.gz",
    }
    environ = environment(
        **wanted, WORKDIR="gs://b/run", POLL_SECONDS="0", PATH=f"{tmp_path}:{os.environ['PATH']}"
    )
    arguments = ["--config=configs/x.py", "--config.methods=('residual','clean_only')"]
    done = subprocess.run(
        [str(SCRIPTS / "tpu_queue.sh"), *arguments], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    created = [line for line in lines if " create " in line]
    assert len(created) == 2 and len([line for line in lines if " delete " in line]) == 2
    for flag in ("--spot", "--node-id=faces", "--accelerator-type=v5litepod-16", "startup-script="):
        assert flag in created[0]
    # What the start-up script reads back is what was given here.
    words = subprocess.run(
        ["bash", "-c", f'eval "set -- $(cat {tmp_path}/args)"; printf "%s\\n" "$@"'],
        capture_output=True,
        text=True,
    )
    assert words.stdout.splitlines() == [*arguments, "--workdir=gs://b/run"]


def test_a_queue_that_never_ends_says_so(tmp_path):
    script(tmp_path / "gcloud", 'case "$*" in *describe*) echo FAILED ;; "storage ls"*) exit 1 ;; esac\n')
    names = ("NAME", "ZONE", "TYPE", "RUNTIME", "SOURCE", "WORKDIR")
    environ = environment(**dict.fromkeys(names, "x"), ATTEMPTS="2", PATH=f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run(
        [str(SCRIPTS / "tpu_queue.sh")], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 75 and "not done after 2 slices" in done.stderr
