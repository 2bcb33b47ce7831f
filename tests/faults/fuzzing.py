"""What the fuzzed readers share: damaged bytes like those of a good file, and what a reader may do with them."""

import io
import os

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("JAXDIFF_FUZZ", 300))  # of each fuzzed reader
NAMED = (ValueError, FileNotFoundError, OSError)  # what a reader may raise, with a message
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Evil:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@st.composite
def hurt(draw, good):
    """Bytes like those of a good file: cut, with bits flipped, bytes overwritten, parts doubled; or any bytes."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(
            st.sampled_from(("flip", "flip", "flip", "overwrite", "cut", "insert", "remove", "anything"))
        )
        if kind == "cut":
            data = data[:at]
        elif kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "overwrite":
            new = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(new)] = new
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 16))]
        else:
            data = bytearray(draw(st.binary(max_size=200)))
    return bytes(data)


def survives(open_and_read, counts, where):
    """Reads, or raises an error that says where; anything else fails the test."""
    try:
        open_and_read()
    except NAMED as error:
        assert str(where) in str(error), f"the message does not say where: {error!r}"
        counts["refused"] += 1
    else:
        counts["read"] += 1


def fuzz(record_property, name, good, path, open_and_read, where=None):
    """Read the file many times, damaged each time; errors name `where`, by default the file's directory."""
    counts = {"read": 0, "refused": 0}

    @fuzzed
    @given(hurt(good))
    def attempt(data):
        path.write_bytes(data)
        survives(open_and_read, counts, where or path.parent)

    attempt()
    record_property(f"fuzzed {name}", f"{counts['read']} read, {counts['refused']} refused, 0 crashed")
    assert counts["refused"] > 0


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
