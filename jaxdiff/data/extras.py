"""Packages that only some sources need."""

import importlib
from types import ModuleType


def require(module: str, source: str, extra: str = "mri") -> ModuleType:
    """The module.

    Raises:
        FileNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FileNotFoundError(
            f"{source}: needs the package '{module.split('.')[0]}', which is not installed ({error}); "
            f'run: pip install -e ".[{extra}]"'
        ) from error
