"""What is set before JAX starts: the persistent compile cache, on by default."""

from pathlib import Path

import jax
import pytest

from jaxdiff.experiment import command

KEYS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def kept():
    """JAX's own settings come back."""
    before = {key: getattr(jax.config, key) for key in KEYS}
    yield
    for key, value in before.items():
        jax.config.update(key, value)


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_compiled_programs_are_kept(kept, given, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JAXDIFF_CACHE", raising=False)
    if given:
        monkeypatch.setenv("JAXDIFF_CACHE", str(tmp_path / given))
    command.prepare_jax("off")
    folder = tmp_path / given if given else tmp_path / ".cache" / "jaxdiff"
    assert Path(jax.config.jax_compilation_cache_dir) == folder / "compiled"
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.5
