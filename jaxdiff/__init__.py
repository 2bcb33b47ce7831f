"""jaxdiff: diffusion models trained from partial and corrupted data.

The forward process is X_sigma = X + sigma Z; a denoiser is a plain function D(x, sigma) that estimates
E[X | X_sigma = x]; score = (D - x) / sigma^2. See docs/design.md for the rooms and the mathematics.
"""

__version__ = "0.1.0"
