"""Score captions that another program wrote, as eval.py scores those of a model.

python tools/score_captions.py theirs.json --data.dir createdFileBlackAUG
python tools/score_captions.py theirs.csv --split val test --output runs/theirs

FILE is captions.json of eval.py, a JSON list of objects with `filename` and `caption`, COCO's results
(objects with `image_id` and `caption`, where `image_id` is a file name), or a CSV file with the columns
`filename` and `caption`. It must have one caption for each pair of the split. Folders and suffixes of names
may be left out or differ if they are not needed to tell the pairs apart.

Captions are scored in lower case without punctuation, as references are. The floors are chosen from the
captions of the train split in --data.dir. Prints the tables of eval.py; with --output DIR, writes scores.json
and captions.json there. scores.json records the file, data and settings (`evaluation`).
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
from configs import Config
from configs.command_line import CommandLine
from data.atomic_write import check_writable
from data.errors import UserError
from data.splits import Reader, open_split
from data.vocabulary import SPECIALS, UNK
from tools.engine.captioning import caption_entry
from tools.engine.evaluation import WITHOUT_CHECKPOINT, publish, score_captions
from tools.engine.folder_lock import locked
from tools.engine.given_captions import PairName, as_words, join_captions, read_given_captions
from tools.engine.provenance import describe_captions
from tools.engine.uncaptioned import refuse_uncaptioned
from tools.scoring.meteor import Meteor
from tools.scoring.results import CaptionEntry


def main(argv: list[str] | None = None) -> None:
    parser = CommandLine(__doc__, "data")
    parser.add_argument("captions", type=Path, metavar="FILE", help="the captions, .json, .jsonl or .csv")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    parser.add_argument("--output", type=Path | None, help="folder for scores.json and captions.json")
    config, options = parser.read(argv)
    score_file(options.captions, list(dict.fromkeys(options.split)), config, options.output)


def score_file(path: Path, split_names: list[str], config: Config, output: Path | None) -> None:
    """Score the captions of a file; print the tables, and write the results to the folder `output`."""
    with ExitStack() as stack:
        if output:
            check_writable(output, "--output", folder=True)
            refuse_overwriting(path, output)
            stack.enter_context(locked(output, "wait until it has ended, or give another --output"))
        refuse_uncaptioned(split_names, config.data, None)
        splits = [open_split(split, config.data) for split in split_names]
        captions = read_captions(path, split_names, splits)
        evaluation = describe_captions(path, config, split_names)
        meteor = stack.enter_context(Meteor())
        scores = score_captions(captions, splits, WITHOUT_CHECKPOINT, config, meteor)
        publish(scores, captions, evaluation, output)


def read_captions(
    path: Path, names: Sequence[str], splits: Sequence[tuple[Reader, list[int]]]
) -> list[CaptionEntry]:
    """An entry for each pair in use of the splits, with its caption in a file; errors as in `join_captions`.

    names: those of the splits.
    """
    rows, pairs, known = [], [], set()
    for name, (reader, rows_of_split) in zip(names, splits, strict=True):
        known |= {word for word in reader.vocabulary.words if word not in SPECIALS or word == UNK}
        for row in rows_of_split:
            rows.append((reader, row))
            pairs.append(PairName(name, reader.filenames[row]))
            known |= set(" ".join(reader.references[row]).split())
    captions = as_words(join_captions(read_given_captions(path), pairs, path), known, path)
    return [caption_entry(reader, row, text) for (reader, row), text in zip(rows, captions, strict=True)]


def refuse_overwriting(path: Path, output: Path) -> None:
    """UserError if the results would replace the file of the captions."""
    if (output / "captions.json").resolve() == path.resolve():
        raise UserError(
            f"--output {output} holds {path}, which the results would replace: choose another folder"
        )


if __name__ == "__main__":
    cli.run(main)
