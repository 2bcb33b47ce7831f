"""Loss and tuning curves: an honest running mean, the kept step named, one panel for what was not tuned."""

import numpy as np
import pytest

from jaxdiff.report.training_curves import smooth, training_curves

INK = "#000000"


def test_smooth_keeps_constants_and_is_a_mean_over_the_window():
    np.testing.assert_allclose(smooth(np.full(9, 3.0), 5), 3.0)
    np.testing.assert_allclose(smooth(np.arange(9.0), 3)[1:-1], np.arange(9.0)[1:-1])
    np.testing.assert_allclose(smooth(np.arange(9.0), 3)[[0, -1]], [0.5, 7.5])


def test_stages_with_tuning_have_two_panels_and_name_the_kept_step():
    history = {"step": list(range(1, 1001)), "loss": [1.0 / n for n in range(1, 1001)]}
    tuning = {"step": [0, 500, 1000], "score": [1.0, 3.0, 2.0]}
    drawing = training_curves("a", "s", {"history": history, "tuning": tuning, "best_step": 500}, INK)
    assert "training loss" in drawing.svg and "tuning score" in drawing.svg
    assert drawing.caption == "Kept: step 500."
    alone = training_curves("a", "s", {"history": history, "tuning": {"step": [], "score": []}}, INK)
    assert "tuning score" not in alone.svg


@pytest.mark.parametrize("loss", [[], None, [float("nan")] * 3, "text"], ids=str)
def test_nothing_to_draw_gives_no_figure(loss):
    assert training_curves("a", "s", {"history": {"step": [1, 2, 3], "loss": loss}}, INK) is None
