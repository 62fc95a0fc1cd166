"""A warning about a dataset, and how warnings are listed."""

from collections.abc import Sequence
from dataclasses import dataclass

from data.listing import listed

IN_FULL = 5  # warnings that are printed with examples
EXAMPLES = 5  # per warning


@dataclass(frozen=True)
class DataWarning:
    """A problem, what to do about it, and examples."""

    problem: str
    remedy: str
    examples: Sequence[str] = ()

    def line(self, with_examples: bool) -> str:
        """The warning in one line, with a few examples in parentheses."""
        few = listed(self.examples, EXAMPLES, "; ")
        return f"{self.problem}{f' ({few})' if few and with_examples else ''}: {self.remedy}"


def warning_lines(warnings: Sequence[DataWarning]) -> list[str]:
    """A heading with the number of warnings, then a line for each; no line without warnings."""
    lines = [f"- {warning.line(number < IN_FULL)}" for number, warning in enumerate(warnings)]
    return [f"warnings: {len(warnings)}", *lines] if warnings else []
