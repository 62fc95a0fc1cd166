"""Write captions: one pair as text or JSON, many pairs as a table in CSV or JSON, row by row."""

import csv
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from data.atomic_write import DISK_IS_FULL, cannot_write
from data.pair_files import COLUMNS, PairFiles, print_remark
from tools.engine.predictor import Answer


@dataclass(frozen=True)
class ScoredCaption:
    """A caption and its log-probability."""

    caption: str | None = None
    log_prob: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of the output: the files of a pair with its captions, best first, or with an error."""

    pair: PairFiles
    captions: Sequence[ScoredCaption] = (ScoredCaption(),)
    changed: bool | None = None
    change_probability: float | None = None
    error: str | None = None

    @classmethod
    def of_answer(cls, pair: PairFiles, answer: Answer) -> "Row":
        """The row of a captioned pair."""
        captions = [ScoredCaption(each.text, each.log_prob) for each in answer.answers]
        return cls(pair, captions, answer.changed, answer.change_probability)

    def to_dict(self) -> dict[str, Any]:
        """The columns; `answers` is present only if there are several captions."""
        columns = {column: self.pair.given.get(column, "") for column in COLUMNS}
        columns["changed"] = None if self.changed is None else "yes" if self.changed else "no"
        columns["change_probability"] = self.change_probability
        columns.update(asdict(self.captions[0]), error=self.error)
        if len(self.captions) > 1:
            columns["answers"] = [asdict(caption) for caption in self.captions]
        return columns


def print_row(row: Row, as_json: bool) -> None:
    """Print the captions of a pair, one per line, or the row as JSON."""
    if as_json:
        content = row.to_dict()
        del content["error"]
        print(json.dumps(content, indent=1))
    elif len(row.captions) == 1:
        print(row.captions[0].caption)
    else:
        for answer in row.captions:
            print(f"{answer.caption}\t{answer.log_prob:.3f}")


class Table:
    """Writes rows one by one, as CSV or as a JSON list.

    answers: captions per pair; CSV has the second one in `caption_2` and `log_prob_2`. extra: the other
    columns of the pairs' table, which follow ours; one of the same name as ours becomes `given_<name>`.
    """

    def __init__(self, file: IO[str], as_json: bool, answers: int = 1, extra: Sequence[str] = ()) -> None:
        self.file, self.rows, self.csv = file, 0, None
        columns = [*COLUMNS, "changed", "change_probability", "caption", "log_prob", "error"]
        for number in range(2, answers + 1):
            columns += [f"caption_{number}", f"log_prob_{number}"]
        self.extra = {}
        for name in extra:
            self.extra[name] = name
            while self.extra[name] in (*columns, "answers"):
                self.extra[name] = f"given_{self.extra[name]}"
            columns.append(self.extra[name])
            if self.extra[name] != name:
                print_remark(f"the column {name} of the table is written as {self.extra[name]}")
        if not as_json:
            self.csv = csv.DictWriter(file, columns, lineterminator="\n")
            self.csv.writeheader()
        self.flush()

    def write(self, row: Row) -> None:
        content = row.to_dict()
        if self.csv:
            for number, answer in enumerate(content.pop("answers", [])[1:], 2):
                content |= {f"{name}_{number}": value for name, value in answer.items()}
        for name, value in row.pair.extra.items():
            is_text = value is None or isinstance(value, str)
            content[self.extra[name]] = value if is_text or not self.csv else json.dumps(value)
        if self.csv:
            self.csv.writerow(content)
        else:
            start = ",\n" if self.rows else "[\n"
            self.file.write(start + textwrap.indent(json.dumps(content, indent=1), " "))
        self.rows += 1

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """Close the JSON list, which may be empty."""
        if not self.csv:
            self.file.write("\n]\n" if self.rows else "[]\n")
        self.flush()


@contextmanager
def open_table(
    output: Path | None, as_json: bool, answers: int = 1, extra: Sequence[str] = ()
) -> Iterator[Table]:
    """Open a table in a file, or on standard output if `output` is None. OSError on a full disk.

    Rows that were written are kept if the script ends early.
    """
    if not output:
        yield from _table_in(sys.stdout, as_json, answers, extra)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with output.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            yield from _table_in(file, as_json, answers, extra)
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            raise cannot_write(output, error.strerror) from error
        raise


def _table_in(file: IO[str], as_json: bool, answers: int, extra: Sequence[str]) -> Iterator[Table]:
    table = Table(file, as_json, answers, extra)
    try:
        yield table
    finally:
        table.close()
