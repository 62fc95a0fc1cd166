"""Read JSON, JSON Lines and CSV files; invalid files raise a one-line error that says how to fix them."""

import csv
import io
import json
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from data.errors import UserError


def read_json(path: str | Path, remedy: str) -> Any:
    """The content of a JSON file in UTF-8 or UTF-16.

    Raises FileNotFoundError if the file is missing, UserError if it is not JSON, has another encoding or is
    nested too deeply. `remedy` ends the message: what the user can do.
    """
    return parse_json(read_text(path, remedy), path, remedy)


def read_json_lines(path: str | Path, remedy: str) -> list[Any]:
    """The content of a JSON Lines file, one item per line; errors as in `read_json`.

    A last line that is not JSON is dropped: the program that wrote the file was stopped while writing it.
    """
    lines = read_text(path, remedy).splitlines()
    items = [parse_json(line, path, remedy) for line in lines[:-1]]
    with suppress(UserError):
        items += [parse_json(line, path, remedy) for line in lines[-1:]]
    return items


def read_csv(path: str | Path, remedy: str) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, as dicts; errors as in `read_json`.

    The delimiter is the first comma, semicolon or tab of the header, outside quotes. Rows of empty cells are
    left out, and short rows are filled with "". A first line `sep=;`, as Excel uses, is skipped.
    """
    text = re.sub(r"\Asep=.[\r\n]", "", read_text(path, remedy)).lstrip("\r\n")
    first = re.search(r"[,;\t\r\n]", re.sub(r'"[^"]*"', "", text))
    delimiter = first[0] if first and first[0] in ",;\t" else ","
    try:
        rows = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
        )
        header = [name.strip() or f"column_{number}" for number, name in enumerate(next(rows, []), 1)]
        table = [(rows.line_num, row) for row in rows if any(row)]
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV table ({error}): {remedy}") from None
    for name, count in Counter(header).items():
        if count > 1:
            raise UserError(f"{path} must have different columns, got {name} {count} times: rename them")
    for line, row in table:
        if any(row[len(header) :]):
            raise UserError(
                f"{path}, line {line}: a row must have at most {len(header)} cells, as the header, got "
                f"{len(row)}: put text with {delimiter!r} in quotes"
            )
    return [dict(zip(header, [*row, *[""] * len(header)], strict=False)) for _, row in table]


def read_table(path: str | Path, remedy: str) -> Any:
    """The rows of a table as dicts: JSON, JSON Lines (.jsonl, .ndjson), or CSV for every other suffix.

    Errors as in `read_json`. The content of a JSON file is returned as it is and may have another form.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".json":
        return read_json(path, remedy)
    if suffix not in (".jsonl", ".ndjson"):
        return read_csv(path, remedy)
    rows = []
    for number, line in enumerate(read_text(path, remedy).split("\n"), 1):
        if line.strip():
            rows.append(parse_json(line, f"{path}, line {number}", remedy))
    return rows


def read_text(path: str | Path, remedy: str) -> str:
    """The text of a file in UTF-8 or UTF-16 without its byte order mark; errors as in `read_json`."""
    try:
        content = Path(path).read_bytes()
        return content.decode(json.detect_encoding(content))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise FileNotFoundError(f"{path} not found: {remedy}") from None
    except UnicodeDecodeError as error:
        is_table = Path(path).suffix.lower() in (".csv", ".tsv")
        raise UserError(
            f"{path} must be text in UTF-8 or UTF-16 ({error.reason} at byte {error.start}): "
            f"save it as UTF-8{'' if is_table else f', or {remedy}'}"
        ) from None


def parse_json(text: str, path: str | Path, remedy: str) -> Any:
    """Parse JSON text that was read from `path`; UserError as in `read_json`."""
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{path} is not JSON that can be read (nested too deeply): {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): {remedy}") from None
