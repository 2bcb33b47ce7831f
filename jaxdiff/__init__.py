"""jaxdiff: diffusion models trained from partial and corrupted data.

The forward process is X_sigma = X + sigma Z; a denoiser is a plain function D(x, sigma) that estimates
E[X | X_sigma = x]; score = (D - x) / sigma^2. See docs/design.md for the rooms and the mathematics.

`jaxdiff.load(directory)` reads a distilled model (docs/distill.md).
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    """`load`, imported when it is asked for, so that `import jaxdiff` alone imports nothing else."""
    if name == "load":
        from jaxdiff.export import load

        return load
    raise AttributeError(f"module 'jaxdiff' has no attribute '{name}'")
