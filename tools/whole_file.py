"""Text files that a reader finds whole, old or new, whenever the writing stops."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text beside its target and rename it when whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
