"""Comparisons: which runs there are, what each is told, and what is made of their measurements."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from configs import digits_compare
from jaxdiff.evaluation import certificate
from jaxdiff.experiment import cells, compare
from jaxdiff.experiment.cells import Cell, CellFailed, run_cells
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.command import INTERRUPTED
from jaxdiff.experiment.variants import changes, load_variant, with_changes
from jaxdiff.training.stopping import Interrupted, StopRequest

ROOT = Path(__file__).parents[2]
FILE = str(ROOT / "configs" / "digits_compare.py")


def small():
    return digits_compare.get_config("tiny")


def test_changes_of_the_command_line_reach_every_run():
    config = digits_compare.get_config()
    config.data.source = "idx:digits.gz"
    config.train.lr = 1e-3
    found = compare.cells_of(config, FILE)
    assert {cell.config.data.source for cell in found.values()} == {"idx:digits.gz"}
    assert {cell.config.train.lr for cell in found.values()} == {1e-3}
    # What a run sets itself stays as it is.
    assert found["all_clean", 0].config.network.dropout == 0.0
    assert found["shared", 0].config.network.dropout == digits_compare.get_config("shared").network.dropout


def test_changes_are_those_that_were_made():
    base, config = digits_compare.get_config("views"), digits_compare.get_config("views")
    assert changes(config, base) == {}
    config.views.top.train.steps = 7
    config.methods = ("views_only",)
    assert changes(config, base) == {"views.top.train.steps": 7, "methods": ("views_only",)}
    without_views = with_changes(digits_compare.get_config("clean_only"), {"views.top.train.steps": 7})
    assert "top" not in without_views.views  # a run that has no such view is left alone


def test_every_run_but_the_oracle_has_so_many_clean_examples():
    config = digits_compare.get_config()
    config.compare.clean = 50
    for (run, seed), cell in compare.cells_of(config, FILE).items():
        data = cell.config.data
        assert cell.config.seed == seed
        if run == "all_clean":
            assert data.clean + data.tuning == 3800
        else:
            assert (data.clean, data.tuning, data.reserved) == (45, 5, 500)


@pytest.mark.parametrize(
    ("count", "share", "tuning"), [(100, 0.1, 10), (50, 0.1, 5), (500, 0.1, 50), (11, 0.01, 1), (17, 0.2, 3)]
)
def test_a_share_of_the_clean_examples_is_tuned_on(count, share, tuning):
    assert compare.clean_counts(count, share) == {"tuning": tuning, "clean": count - tuning}


def test_what_is_made_of_the_runs_changes_no_run():
    config, before = digits_compare.get_config(), compare.cells_of(digits_compare.get_config(), FILE)
    config.compare.update(shown=9, headline="residual")
    config.worth.spend = 7.0
    after = compare.cells_of(config, FILE)
    assert [cells.request(cell) for cell in after.values()] == [cells.request(c) for c in before.values()]


def test_a_key_of_the_comparison_that_was_not_there_makes_no_run_again(tmp_path):
    cell = next(iter(compare.cells_of(digits_compare.get_config(), FILE).values()))
    made = cells.request(cell)
    made["config"] |= {"compare": {"seeds": [0], "of_an_older_version": 1}, "worth": {}}
    directory = tmp_path / cell.name
    directory.mkdir(parents=True)
    (directory / "measured.json").write_text(json.dumps({"request": made}))
    assert cells.is_done(cell, tmp_path)
    made["config"]["seed"] = 99
    (directory / "measured.json").write_text(json.dumps({"request": made}))
    assert not cells.is_done(cell, tmp_path)


def test_views_hold_the_same_examples_for_every_number_of_clean_ones():
    from jaxdiff.experiment.data import load_data

    console, digests = Console(quiet=True), []
    for count in (20, 40):
        config = digits_compare.get_config("tiny-views")
        config.data.unused_clean = "none"  # test_splitting has what 'views' adds to them
        config.data.update(compare.clean_counts(count, 0.2))
        digests.append(load_data(config, console).digests)
    assert digests[0]["clean"] != digests[1]["clean"]
    for part in ("held_out", "reference", "view/top", "view/bottom", "view/low_res"):
        assert digests[0][part] == digests[1][part]


def test_more_clean_examples_than_are_reserved_is_an_error():
    from jaxdiff.experiment.data import load_data

    config = digits_compare.get_config("tiny-views")
    config.data.clean = 100
    with pytest.raises(ConfigError, match="reserved"):
        load_data(config, Console(quiet=True))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("baseline", "clean_onyl", "clean_only"),
        ("headline", "", "compare.headline"),
        ("parts", ("one_netwrk",), "one_network"),
        ("parts", tuple(digits_compare.ROWS), "there is no rival"),
        ("clean", 3, "at least 10"),
        ("tuning_share", 5.0, "between 0 and 1"),
        ("tuning_share", 0.0, "between 0 and 1"),
        ("tuning_share", 0.99, "leaves 1 to train on, at least 2 are needed; nearest valid: 0.98"),
    ],
)
def test_wrong_settings_are_named(key, value, said):
    config = digits_compare.get_config()
    config.compare[key] = value
    with pytest.raises(ConfigError, match=said):
        compare.cells_of(config, FILE)


def test_a_row_of_no_run_is_named():
    config = digits_compare.get_config()
    config.compare.rows.residual = "veiws/residual"
    with pytest.raises(ConfigError, match="views"):
        compare.rows_of(config)


def test_an_unknown_variant_is_named():
    with pytest.raises(ConfigError, match="unknown variant"):
        load_variant(FILE, "vews")


# --- processes ------------------------------------------------------------------------------------------------------


def fake_worker(script):
    """Starts a worker whose process is a line of Python, given its directory."""

    class Worker(cells._Worker):
        def __init__(self, cell, root, cores):
            self.cell, self.cores, self.began = cell, cores, 0.0
            self.directory = root / cell.name
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / "request.json").write_text(json.dumps(cells.request(cell)))
            self.log = self.directory / "log.txt"
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", script, str(self.directory)], stdout=log, stderr=log
                )

    return Worker


MEASURE = """
import json, pathlib, sys
d = pathlib.Path(sys.argv[1])
(d / "measured.json").write_text(json.dumps({"request": json.loads((d / "request.json").read_text())}))
"""


def some_cells(count=5):
    config = digits_compare.get_config("tiny-clean_only")
    return [Cell(f"run/seed{seed}", config) for seed in range(count)]


def test_cells_run_once(tmp_path):
    console, stop = Console(quiet=True), StopRequest()
    done = run_cells(some_cells(), tmp_path, 2, console, stop, start=fake_worker(MEASURE))
    assert [cell.name for cell in done] == [cell.name for cell in some_cells()]
    again = run_cells(some_cells(), tmp_path, 2, console, stop, start=fake_worker("raise SystemExit(1)"))
    assert len(again) == 5  # nothing was started


def test_a_cell_of_another_config_is_run_again(tmp_path):
    console, stop = Console(quiet=True), StopRequest()
    run_cells(some_cells(1), tmp_path, 1, console, stop, start=fake_worker(MEASURE))
    changed = some_cells(1)[0]
    changed.config.train.lr = 0.5
    assert not cells.is_done(changed, tmp_path)


def test_a_failed_cell_shows_the_end_of_its_log(tmp_path):
    script = "print('error: the disk is made of cheese'); raise SystemExit(2)"
    with pytest.raises(CellFailed, match="made of cheese") as failed:
        run_cells(some_cells(2), tmp_path, 1, Console(quiet=True), StopRequest(), start=fake_worker(script))
    assert "run/seed0" in str(failed.value) and "exit code 2" in str(failed.value)


def test_a_stop_reaches_the_cells(tmp_path):
    stop = StopRequest()
    stop.signal = 15
    with pytest.raises(Interrupted):
        run_cells(some_cells(), tmp_path, 2, Console(quiet=True), stop, start=fake_worker(MEASURE))


def test_no_cell_is_started_for_which_there_is_no_time(tmp_path):
    started = []

    def deadline(longest):
        started.append(longest)
        return len(started) <= 2

    console = Console(quiet=True)
    done = run_cells(some_cells(), tmp_path, 1, console, StopRequest(), deadline, fake_worker(MEASURE))
    assert len(done) == 2


def test_workers():
    assert cells.worker_count(3, "cpu") == 3
    assert cells.worker_count(0, "gpu") == 1
    assert cells.worker_count(0, "cpu") >= 1


# --- what is made of them -------------------------------------------------------------------------------------------

QUIET = Console(quiet=True)
SIGMAS = np.geomspace(0.1, 1.0, 3)
# Error of the Gaussian is 2 everywhere; a row of share s has 2 - 1.5 s.
SHARES = {"all_clean": 1.0, "clean_only": 0.2, "bootstrapped": 0.84, "finetune": 0.6}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Cells of a small comparison with errors that were made up."""
    held_out = np.zeros((8, 4, 4, 1), np.float32)
    monkeypatch.setattr(
        compare,
        "sample_scores",
        lambda _, samples, *__: ({n: {} for n in samples}, {n: {} for n in samples}, held_out),
    )
    config = digits_compare.get_config()
    runs = {
        "all_clean": "clean_only",
        "clean_only": "clean_only",
        "shared": "views_only",
        "finetune": "finetune",
    }
    config.compare.update(runs=tuple(runs), seeds=(0, 1), parts=())
    rows = {
        "all_clean": "all_clean",
        "clean_only": "clean_only",
        "bootstrapped": "shared",
        "finetune": "finetune",
    }
    for name in list(config.compare.rows):
        del config.compare.rows[name]
    for name, run in rows.items():
        config.compare.rows[name] = f"{run}/{runs[run]}"
    found, rng = compare.cells_of(config, FILE), np.random.default_rng(0)
    pictures = np.zeros((4, 4, 4, 1), np.uint8)
    per_image = rng.uniform(0.5, 1.5, (40, 1))  # difficulty that all methods share
    for name, run in rows.items():
        for seed in (0, 1):
            cell, method = found[run, seed], runs[run]
            directory = tmp_path / cell.name
            (directory / "samples").mkdir(parents=True)
            error = per_image * (2 - 1.5 * SHARES[name]) * SIGMAS**2
            np.savez(
                directory / "errors.npz", sigmas=SIGMAS, gaussian=2 * per_image * SIGMAS**2, **{method: error}
            )
            np.savez(directory / "samples" / f"{method}.npz", images=pictures)
            entry = {
                "description": name,
                "images_seen": 1000,
                "train_flops": 2e12,
                "denoiser_flops": 1e6,
                "seconds": 10.0,
                "parameters": 5,
            }
            said = {
                "request": cells.request(cell),
                "methods": {method: entry},
                "data": {"counts": {"held_out": 40}, "image_shape": [4, 4, 1]},
                "device": "cpu",
            }
            (directory / "measured.json").write_text(json.dumps(said))
    return config, found, tmp_path


def test_gap_closed_is_that_of_the_errors(measured):
    config, found, root = measured
    summary, arrays = compare.summarise(config, found, root, ["python", "launch.py"], QUIET)
    rows = {row["name"]: row for row in summary["rows"]}
    # (0.84 - 0.2) / (1 - 0.2)
    assert rows["bootstrapped"]["gap_closed"]["mean"] == pytest.approx(0.8)
    assert rows["finetune"]["gap_closed"]["mean"] == pytest.approx(0.5)
    assert rows["clean_only"]["gap_closed"]["mean"] == pytest.approx(0.0, abs=1e-9)
    assert rows["all_clean"]["gap_closed"]["mean"] == pytest.approx(1.0)
    with np.load(root / found["shared", 0].name / "errors.npz") as stored:
        nats = certificate.nats(stored["gaussian"], stored["views_only"], SIGMAS).mean()
    assert rows["bootstrapped"]["nats"]["mean"] == pytest.approx(nats)
    assert "bootstrapped wins" in summary["headline"] and "finetune, the best rival" in summary["headline"]
    assert set(arrays) == {"real", *(f"samples/{name}" for name in SHARES)}
    assert rows["bootstrapped"]["train_gflop_per_image"] == pytest.approx(2.0)
    steps = 2 * config.sample.steps - 1
    assert rows["bootstrapped"]["sampling_gflop_per_image"] == pytest.approx(1e-3 * steps)


def test_bands_add_up_to_the_lead_over_the_baseline_and_rows_say_what_they_saw(measured):
    config, found, root = measured
    summary, _ = compare.summarise(config, found, root, [], QUIET)
    rows, gains = {row["name"]: row for row in summary["rows"]}, summary["bands"]["nats_over_baseline"]
    for name in SHARES:
        assert sum(gains[name]) == pytest.approx(rows[name]["versus_clean_only"]["mean"])
    # Errors are proportional to sigma^2: every level adds its width in ln sigma.
    np.testing.assert_allclose(np.array(gains["all_clean"]) / gains["all_clean"][0], [1, 2, 1])
    assert rows["all_clean"]["saw"] == {"clean": 3750, "tuning": 50, "views": {}}
    assert rows["clean_only"]["saw"] == {"clean": 90, "tuning": 10, "views": {}}
    assert set(rows["finetune"]["saw"]["views"]) == {"low_res"}
    assert 90 + 10 + sum(rows["bootstrapped"]["saw"]["views"].values()) == 3800


def test_a_row_that_took_more_than_the_oracle_is_named(measured):
    config, found, root = measured
    assert compare.summarise(config, found, root, [], QUIET)[0]["warnings"] == []
    path = root / found["finetune", 0].name / "measured.json"
    said = json.loads(path.read_text())
    said["methods"]["finetune"]["train_flops"] = 2.8e12  # the oracle's are 2e12
    path.write_text(json.dumps(said))
    (warning,) = compare.summarise(config, found, root, [], QUIET)[0]["warnings"]
    assert warning.startswith("finetune took 40 % more training operations than all clean")
    config.compare.tolerance = 0.5
    assert compare.summarise(config, found, root, [], QUIET)[0]["warnings"] == []


def test_a_part_of_the_headline_is_no_rival_of_it(measured):
    config, found, root = measured
    config.compare.parts = ("finetune",)
    summary, _ = compare.summarise(config, found, root, [], QUIET)
    assert "finetune" not in summary["headline"] and "clean_only, the best rival" in summary["headline"]
    assert "finetune" in {pair["worse"] for pair in summary["pairs"]}


def test_without_a_gap_there_is_no_share_of_it(measured):
    config, found, root = measured
    config.compare.oracle = "clean_only"
    summary, _ = compare.summarise(config, found, root, [], QUIET)
    assert {row["gap_closed"] for row in summary["rows"]} == {None}
    assert "bootstrapped wins" not in summary["headline"] and "gap" not in summary["headline"]


def test_a_method_that_a_run_has_not_is_named(measured):
    config, found, root = measured
    config.compare.rows.finetune = "finetune/cascade"
    with pytest.raises(ConfigError, match="has no 'cascade', it has finetune, gaussian"):
        compare.summarise(config, found, root, [], QUIET)


def test_as_many_samples_are_shown_as_asked_for(measured):
    config, found, root = measured
    config.compare.shown = 3
    arrays = compare.summarise(config, found, root, [], QUIET)[1]
    assert {len(images) for images in arrays.values()} == {3}


def test_only_a_missing_gap_is_passed_over(measured, monkeypatch):
    config, found, root = measured

    def broken(*_, **__):
        raise ValueError("not this one")

    monkeypatch.setattr(compare, "gap_closed", broken)
    with pytest.raises(ValueError, match="not this one"):
        compare.summarise(config, found, root, [], QUIET)


def interrupted_after_one(command_line, root):
    """Stop the command when its first cell is measured; {measured.json: when it was written} of those that are."""

    def found():
        return list(root.glob("*/seed*/measured.json"))

    process = subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(1500):
            if found() or process.poll() is not None:
                break
            time.sleep(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == INTERRUPTED
    finally:
        process.kill()
    assert 1 <= len(found()) < 10 and not (root / "compare.json").exists()
    return {path: path.stat().st_mtime_ns for path in found()}


@pytest.mark.slow
def test_a_comparison_end_to_end(tmp_path):
    """Five runs by two seeds in their own processes, interrupted after the first, and resumed."""
    command_line = [
        sys.executable,
        "launch.py",
        "--config=configs/digits_compare.py:tiny",
        "--mode=compare",
        f"--workdir={tmp_path}",
        "--config.compare.runs=('tiny-all_clean','tiny-clean_only','tiny-shared','tiny-views','tiny-plain_sum')",
    ]
    keep = (
        "all_clean",
        "clean_only",
        "bootstrapped",
        "one_network",
        "views_only",
        "residual",
        "em_from_views",
        "plain_sum",
    )
    config = small()
    for name in config.compare.rows:
        if name not in keep:
            command_line.append(f"--config.compare.rows.{name}=tiny-views/views_only")
    before = interrupted_after_one(command_line, tmp_path)
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (tmp_path / "compare.html").exists()
    summary = json.loads((tmp_path / "compare.json").read_text())
    assert {row["name"] for row in summary["rows"]} == set(config.compare.rows)
    for path, changed in before.items():
        assert path.stat().st_mtime_ns == changed  # what was measured before the interruption was not again
    # Views that `views` and `plain_sum` have in common were trained once: one directory a view and seed, no other.
    shared = [path.relative_to(tmp_path) for path in tmp_path.rglob("done.txt") if "view" in path.parts]
    assert len(shared) == 6 and {path.parts[0] for path in shared} == {"shared"}
    for path in shared:
        lines = (tmp_path / path.parent / "metrics.jsonl").read_text().splitlines()
        steps = [record["step"] for record in map(json.loads, lines) if "loss" in record]
        assert steps == sorted(set(steps))  # no step was taken twice
    again = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and "started" not in again.stdout
