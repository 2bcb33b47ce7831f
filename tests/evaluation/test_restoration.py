"""Scores of restored images, against scikit-image and by hand."""

import numpy as np
import pytest
from skimage import metrics

from jaxdiff.evaluation.restoration import intervals, magnitude, nrmse, psnr, restoration_scores, ssim

RNG = np.random.default_rng(0)
TRUTH = np.clip(np.cumsum(RNG.normal(size=(3, 24, 31, 2)), axis=2) / 4, -1, 1)
RESTORED = TRUTH + 0.2 * RNG.normal(size=TRUTH.shape)


def test_scores_are_those_of_scikit_image():
    for i in range(3):
        expected = metrics.structural_similarity(
            TRUTH[i], RESTORED[i], data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            channel_axis=-1,
        )  # fmt: skip
        assert ssim(TRUTH, RESTORED)[i] == pytest.approx(expected, abs=1e-10)
        assert psnr(TRUTH, RESTORED, 2.0)[i] == pytest.approx(
            metrics.peak_signal_noise_ratio(TRUTH[i], RESTORED[i], data_range=2.0)
        )
        assert nrmse(TRUTH, RESTORED)[i] == pytest.approx(
            metrics.normalized_root_mse(TRUTH[i], RESTORED[i], normalization="euclidean")
        )


def test_exact_values():
    np.testing.assert_allclose(nrmse(TRUTH, 1.25 * TRUTH), 0.25)
    np.testing.assert_allclose(psnr(TRUTH, TRUTH + 0.02, 2.0), 40.0)
    np.testing.assert_allclose(ssim(TRUTH, TRUTH), 1.0)
    assert np.isinf(psnr(TRUTH, TRUTH)).all()
    # A range for each image.
    np.testing.assert_allclose(psnr(TRUTH, TRUTH + 0.02, np.array([2.0, 0.2, 20.0])), [40.0, 20.0, 60.0])


def test_complex_images_are_compared_by_magnitude_and_not_by_phase():
    z = TRUTH[..., 0] + 1j * TRUTH[..., 1]
    turned = np.stack([(z * np.exp(0.7j)).real, (z * np.exp(0.7j)).imag], axis=-1)
    scores = restoration_scores(TRUTH, turned)
    np.testing.assert_allclose(scores["nrmse"], 0.0, atol=1e-12)
    np.testing.assert_allclose(scores["ssim"], 1.0)
    np.testing.assert_allclose(magnitude(TRUTH)[..., 0], np.abs(z))
    louder = restoration_scores(TRUTH, 1.1 * TRUTH)
    peak, mean_square = np.abs(z).max(axis=(1, 2)), (np.abs(z) ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(louder["psnr"], 10 * np.log10(peak**2 / (0.01 * mean_square)))


def test_real_images_are_in_minus_1_to_1():
    scores = restoration_scores(TRUTH[..., :1], TRUTH[..., :1] + 0.02)
    np.testing.assert_allclose(scores["psnr"], 40.0)


def test_intervals_are_over_images():
    found = intervals({"nrmse": RNG.normal(1.0, 0.1, 400)}, seed=0)["nrmse"]
    assert found["low"] < 1.0 < found["high"]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nrmse(TRUTH, TRUTH[:2]), "nrmse: needs the same images twice"),
        (lambda: nrmse(0 * TRUTH, TRUTH), "image 0 of the truth is 0 everywhere"),
        (lambda: psnr(TRUTH, TRUTH * np.nan), "values of 'restored' are not finite"),
        (lambda: psnr(TRUTH, TRUTH, 0.0), "data_range must be positive"),
        (lambda: ssim(TRUTH[:, :8], TRUTH[:, :8]), "more than 10 pixels"),
        (lambda: magnitude(TRUTH[..., :1]), r"\(n, H, W, 2\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
