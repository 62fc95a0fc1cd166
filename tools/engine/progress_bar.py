"""Progress bars on standard error, shown only on a terminal: in a log file every update would stay."""

from collections.abc import Iterable

from tqdm import tqdm


def progress_bar(
    items: Iterable | None = None,
    description: str | None = None,
    *,
    unit: str,
    total: int | None = None,
    shown: bool = True,
) -> tqdm:
    """A tqdm bar that disappears when it is complete. shown: False in processes that write nothing."""
    return tqdm(items, description, total=total, unit=unit, leave=False, disable=None if shown else True)
