"""Whether the rows of a comparison had the same compute: training operations against the oracle's.

    excess = operations of the row / operations of the oracle - 1

A row above the tolerance has had more, and what it gained may be bought by that; one far below has left some unused.
Early stopping alone leaves operations unused, so less than the oracle's is no warning.
"""

from collections.abc import Mapping, Sequence


def beyond_budget(rows: Sequence[Mapping], oracle: str, tolerance: float) -> list[str]:
    """A sentence for every row whose training cost exceeds the oracle's by more than `tolerance`.

    Args:
      rows: entries of compare.json: 'name', 'label', 'train_pflop'.
      oracle: name of the row that the others are held against.
      tolerance: share of the oracle's operations; 0.2: a fifth more.
    """
    budget = next(row["train_pflop"] for row in rows if row["name"] == oracle)
    label = next(row["label"] for row in rows if row["name"] == oracle)
    said = []
    for row in rows:
        excess = row["train_pflop"] / budget - 1 if budget > 0 else 0.0
        if excess > tolerance:
            said.append(
                f"{row['label']} took {100 * excess:.0f} % more training operations than {label} "
                f"({row['train_pflop']:.3g} and {budget:.3g} PFLOP; tolerated: {100 * tolerance:g} %): not a "
                "comparison under equal compute."
            )
    return said
