"""Lists of names in messages."""

from collections.abc import Sequence


def listed(items: Sequence[object], most: int, separator: str = ", ") -> str:
    """The first `most` items, and "..." for the others: "a, b, ..."."""
    others = ["..."] if len(items) > most else []
    return separator.join([*map(str, items[:most]), *others])
