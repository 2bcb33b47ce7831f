"""Sentences: exact text, and honest when the method loses, ties or the measurements cannot say."""

import pytest

from jaxdiff.report.sentences import exchange_sentence, money_sentence, replaced_sentence, winner_sentence
from tests.report.made_worth import made_money, made_source

GAP = {"mean": 0.87, "low": 0.85, "high": 0.89}
NATS = {"residual": 301.2, "finetune": 288.9, "clean_only": 200.0}


def difference(mean, low, high):
    return {"mean": mean, "low": low, "high": high}


def test_a_win():
    said = winner_sentence("residual", NATS, {"finetune": difference(12.3, 11.0, 13.5)}, GAP)
    assert said == (
        "residual wins: 301.2 nats, 12.3 (11.0 to 13.5) ahead of finetune, the best rival; "
        "it closes 0.870 (0.850 to 0.890) of the gap."
    )
    assert winner_sentence("residual", NATS, {"finetune": difference(12.3, 11.0, 13.5)}).endswith(
        "best rival."
    )


def test_a_rival_wins():
    said = winner_sentence(
        "finetune", NATS, {"residual": difference(-12.3, -13.5, -11.0), "clean_only": difference(80, 79, 81)}
    )
    assert said == "finetune does not win: residual does, 301.2 nats, 12.3 (11.0 to 13.5) ahead of finetune."
    assert "finetune, which closes 0.870" in winner_sentence(
        "finetune", NATS, {"residual": difference(-12.3, -13.5, -11.0)}, GAP
    )


def test_a_tie_is_called_one_whoever_is_ahead():
    near = {"residual": 301.2, "finetune": 300.9, "cascade": 300.8}
    versus = {"finetune": difference(0.3, -0.5, 1.1), "cascade": difference(0.4, -0.2, 1.0)}
    said = winner_sentence("residual", near, versus, GAP)
    assert said.startswith("It is a tie: residual has 301.2 nats and finetune 300.9")
    assert "0.30 (−0.50 to 1.10), includes zero. So does that from cascade." in said
    behind = winner_sentence("finetune", near, {"residual": difference(-0.3, -1.1, 0.5)})
    assert behind.startswith("It is a tie") and "wins" not in said + behind


def test_missing_measurements_are_named():
    with pytest.raises(ValueError, match="residual - finetune is needed"):
        winner_sentence("residual", NATS, {"clean_only": difference(1, 0, 2)})
    with pytest.raises(ValueError, match="'omni' and of one rival"):
        winner_sentence("omni", NATS, {})
    with pytest.raises(ValueError, match="finite nats"):
        winner_sentence("residual", {"residual": float("nan"), "finetune": 1.0}, {})


def test_prices():
    space = "\u00a0"
    assert exchange_sentence(made_source()) == (
        f"One more low_res image is worth 0.210 clean images (95{space}%: 0.170 to 0.260) "
        "at your present 100 clean + 1,300 low_res."
    )
    assert exchange_sentence(made_source(present=(100, 0))).startswith(
        "Each of the first 650 low_res images is worth 0.210 clean images"
    )
    unclear = exchange_sentence(made_source(reading="unclear"))
    assert "cannot say whether one more low_res image is worth anything" in unclear
    assert "does harm" in exchange_sentence(made_source(reading="harms"))
    assert replaced_sentence(made_source()) == (
        f"All 1,300 low_res images together stand in for 236 clean ones (95{space}%: 215 to 257), 0.182 each."
    )
    assert replaced_sentence(made_source(present=(100, 0))) == ""


def test_money():
    assert money_sentence(made_money()) == (
        "The next unit of money is best spent on low_res images: 7.3 nats, against 0.7 for clean images."
    )
    assert "do not decide" in money_sentence(made_money() | {"resolved": False})
