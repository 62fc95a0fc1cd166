"""Rank the pairs of a split by how well a sentence describes them.

python tools/search_pairs.py "a building has been demolished" --checkpoint FILE --data.dir DIR --split test
python tools/search_pairs.py "a new road" --checkpoint FILE --output road.csv          all pairs as CSV
python tools/search_pairs.py --references --checkpoint FILE       how well references find their own pairs

The score of a pair is the mean log-probability of the sentence's words and its end, given the pair: the
log-probability divided by the number of words plus one. The division makes scores of different sentences
comparable; it does not change the order of the pairs. The words must be in the checkpoint's vocabulary.

--references takes each distinct human caption of the split as a query. Its reciprocal rank is 1 / the rank of
the best pair that has this caption; pairs of the same score share the mean of their ranks. "by chance" is the
expected value for pairs in random order.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import numpy as np
from jsonargparse.typing import PositiveInt

from configs import Config
from configs.command_line import CommandLine
from data.atomic_write import atomic_write, check_writable
from data.dataset import ChangeCaptions, make_loader
from data.errors import UserError
from data.maps.settings import MapSettings
from data.splits import Reader, check_maps, check_size, open_split
from models.captioner import inputs_of
from tools.engine.change import can_be_said, encode_sentences
from tools.engine.checkpoint import read_over_checkpoint
from tools.engine.decoding import CaptionDecoding
from tools.engine.device import pick_device
from tools.engine.ensemble import joined_content, load_members, restore_members, split_checkpoints
from tools.engine.progress_bar import progress_bar


def main(argv: list[str] | None = None) -> None:
    config, options, content = read_over_checkpoint(make_parser(), argv)
    checkpoints, sentences = split_checkpoints(options.checkpoint)
    sentences += [options.sentence] if options.sentence else []
    if len(sentences) != (0 if options.references else 1):
        raise UserError("search for a sentence or with --references: give one of the two")
    if options.references and options.output:
        raise UserError("--output has the pairs of one sentence: leave it out with --references")
    if options.output:
        check_writable(options.output, "--output")
    members = load_members(content, checkpoints[1:])
    model, vocabulary = restore_members(members)
    content = joined_content(members)
    reader, rows = open_split(options.split, config.data)
    check_size(reader, content["image_size"])
    check_maps(reader, MapSettings.stored(content), config.data.maps, model.views)
    decoding = CaptionDecoding(model.to(pick_device(config.decode.device)), vocabulary, (), config.decode)
    if options.references:
        print_reference_ranks(decoding, reader, rows, config)
    else:
        scores = score_pairs(decoding, reader, rows, sentences, config)[:, 0]
        report(scores, reader, rows, options.output, options.top)


def make_parser() -> CommandLine:
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("sentence", nargs="?", type=str | None, help="what to look for, in words of captions")
    parser.add_argument(
        "--checkpoint", type=str, nargs="+", required=True, help="best.pt of a run; several form an ensemble"
    )
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--references", action="store_true", help="take the references as queries")
    parser.add_argument("--output", type=Path | None, help="CSV file for all pairs, best first")
    parser.add_argument("--top", type=PositiveInt, default=10, help="number of pairs to print")
    return parser


def score_pairs(
    decoding: CaptionDecoding, reader: Reader, rows: list[int], sentences: Sequence[str], config: Config
) -> np.ndarray:
    """The score of each sentence for each pair: (pairs, sentences)."""
    model = decoding.model
    tokens = encode_sentences(sentences, decoding.vocabulary, model.settings.max_length)
    lengths = np.array([len(sentence.split()) + 1 for sentence in sentences])
    samples = ChangeCaptions(reader, rows=rows, captions="none", maps=config.data.maps)
    loader = make_loader(samples, config.data, batch_size=config.decode.batch_size)
    scores = []
    for batch in progress_bar(loader, "scoring", unit="batch"):
        log_probs = decoding.score(inputs_of(batch, model.device), tokens)
        scores.append(log_probs.cpu().numpy() / lengths)
    return np.concatenate(scores)


def report(scores: np.ndarray, reader: Reader, rows: Sequence[int], output: Path | None, top: int) -> None:
    """Print the `top` pairs, best first, and write all of them to `output`."""
    ranking = np.argsort(-scores, kind="stable")
    for rank, index in enumerate(ranking[:top], 1):
        row = rows[index]
        print(f"{rank}\t{scores[index]:.3f}\t{reader.filenames[row]}\t{reader.references[row][0]}")
    if not output:
        return
    with atomic_write(output) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["rank", "filename", "score", "changed", "reference"])
        for rank, index in enumerate(ranking, 1):
            row = rows[index]
            changed = "yes" if reader.changed[row] else "no"
            score = float(scores[index])
            table.writerow([rank, reader.filenames[row], score, changed, reader.references[row][0]])
    print(f"{len(ranking)} pairs in {output}", file=sys.stderr)


def print_reference_ranks(decoding: CaptionDecoding, reader: Reader, rows: list[int], config: Config) -> None:
    """Print the mean reciprocal ranks of all references, and of those of changed and unchanged pairs."""
    if not reader.has_human_words:
        raise UserError("--references needs human captions: give their JSON with --data.annotations")
    longest, pairs_of = decoding.model.settings.max_length, {}
    for index, row in enumerate(rows):
        for reference in reader.references[row]:
            pairs_of.setdefault(reference, set()).add(index)
    known = [text for text in pairs_of if can_be_said(text, decoding.vocabulary, longest)]
    if len(known) < len(pairs_of):
        left_out = len(pairs_of) - len(known)
        remark = f"{left_out} of {len(pairs_of)} references left out: too long, or with unknown words"
        print(remark, file=sys.stderr)
    if not known:
        raise UserError(f"no reference of {reader.path} can be scored: give data of the checkpoint's words")
    scores = score_pairs(decoding, reader, rows, known, config)
    changed = {index for index, row in enumerate(rows) if reader.changed[row]}
    of_changed = {text: bool(pairs_of[text] & changed) for text in known}
    ranks = {text: best_rank(scores[:, index], pairs_of[text]) for index, text in enumerate(known)}
    parts = {
        "all": known,
        "of changed pairs": [text for text in known if of_changed[text]],
        "of unchanged pairs": [text for text in known if not of_changed[text]],
    }
    for part, texts in parts.items():
        if texts:
            reciprocal = np.mean([1 / ranks[text] for text in texts])
            chance = np.mean([chance_reciprocal_rank(len(pairs_of[text]), len(rows)) for text in texts])
            print(
                f"mean reciprocal rank, references {part}: {reciprocal:.3f} "
                f"({len(texts)} queries, {len(rows)} pairs, by chance {chance:.3f})"
            )


def best_rank(scores: np.ndarray, pairs: set[int]) -> float:
    """The rank of the best of some pairs; equal scores share the mean of their ranks."""
    best = scores[list(pairs)].max()
    return 1 + int((scores > best).sum()) + (int((scores == best).sum()) - 1) / 2


def chance_reciprocal_rank(relevant: int, pairs: int) -> float:
    """The expected 1 / rank of the first of `relevant` pairs in a random order of all."""
    expected, none_before = 0.0, 1.0
    for rank in range(1, pairs - relevant + 2):
        first = relevant / (pairs - rank + 1)
        expected += none_before * first / rank
        none_before *= 1 - first
    return expected


if __name__ == "__main__":
    cli.run(main)
