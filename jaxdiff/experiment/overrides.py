"""Errors of the command line, explained: which `--config.key` is unknown, and what the nearest key is."""

import importlib.util
import sys
from pathlib import Path

from jaxdiff import registry


def load_config(spec: str):
    """`get_config(variant)` of `configs/NAME.py[:variant]`."""
    file, _, variant = spec.partition(":")
    if not Path(file).exists():
        known = [str(p) for p in sorted(Path(file).parent.glob("*.py"))] if Path(file).parent.is_dir() else []
        guess = registry.nearest(file, known)
        raise FileNotFoundError(
            f"--config: there is no file {file}" + (f"; did you mean {guess}?" if guess else "")
        )
    module_spec = importlib.util.spec_from_file_location("_config", file)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module.get_config(variant) if variant else module.get_config()


def unknown_key(config, path: str) -> str | None:
    """The message for the first part of a dotted path that `config` does not have; None where it has all."""
    passed = "config"
    for part in path.split("."):
        if not hasattr(config, "keys"):
            return f"{passed} is a value, it has no key '{part}'"
        if part not in config:
            return f"{passed}: {registry.unknown(part, config.keys(), 'key')}"
        config, passed = config[part], f"{passed}.{part}"
    return None


def explain(error: Exception, argv: list[str]) -> str:
    """One message for an error raised while the flags were read."""
    spec = next((a.split("=", 1)[1] for a in argv if a.startswith(("--config=", "-config="))), None)
    if spec is None:
        if "config" in str(error):
            return "--config=configs/NAME.py is needed, such as --config=configs/digits_residual.py"
        return str(error)
    try:
        config = load_config(spec)
    except (FileNotFoundError, ValueError, TypeError) as load_error:
        return str(load_error)
    for argument in argv:
        name = argument.lstrip("-").split("=", 1)[0]
        if argument.startswith("-") and name.startswith("config."):
            message = unknown_key(config, name.removeprefix("config."))
            if message is not None:
                return f"{message}  (from {argument})"
    return str(error).splitlines()[0] if str(error) else f"{type(error).__name__} in {' '.join(sys.argv)}"
