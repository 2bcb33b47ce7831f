"""The theory task from the command: its files, its exit code, its errors."""

import json

import pytest

from configs import gaussian_theory
from jaxdiff.evaluation import theory_rows
from jaxdiff.experiment import command


def smaller():
    config = gaussian_theory.get_config("tiny")
    config.theory.rhos, config.theory.counts = (0.2, 0.7), (16, 64)
    config.theory.noise, config.theory.sets = (1.0, 3.0), 40
    return config


def run(config, workdir):
    return command.main(
        config, "gaussian_theory.py:tiny", str(workdir), "all", False, ["python", "launch.py"]
    )


def test_writes_results_and_report(tmp_path, capsys):
    assert run(smaller(), tmp_path) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert all(row["ok"] for row in results["rows"]) and len(results["dial"]["cells"]) == 4
    page = (tmp_path / "report.html").read_text()
    assert page.count('role="img"') == 6 and f"All {len(results['rows'])} rows agree" in page
    printed = capsys.readouterr().out
    assert "measured" in printed and "FAIL" not in printed and "11/11" in printed


def test_a_row_out_of_tolerance_is_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory_rows, "RATES", (2, 4, 8))
    assert run(smaller(), tmp_path) == 1
    assert "FAIL" in capsys.readouterr().out
    assert (
        "1 of " in (tmp_path / "report.html").read_text().split("rows are outside their tolerance")[0][-40:]
    )


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("counts", (4,), "n >= 10, got (4,)"),
        ("clean_share", 0.0, "0 < clean_share < 1"),
        ("rhos", (2.0, 0.1), "(0, 1)"),
    ],
)
def test_bad_values_are_one_message_before_anything_runs(tmp_path, capsys, key, value, message):
    config = smaller()
    config.theory[key] = value
    assert run(config, tmp_path) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
