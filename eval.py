"""Caption a split with a model and score the captions beside their floors, or score the maps of a detector.

python eval.py --checkpoint runs/second_cc/best.pt
python eval.py --checkpoint runs/second_cc/best.pt --split val test --decode.beam_size 1
python eval.py --checkpoint runs/second_cc/best.pt --data.maps void       control: the effect of the maps
python eval.py --checkpoint runs/second_cc/best.pt --data.maps detected   after tools/detect_maps.py
python eval.py --checkpoint runs/second_cc/best.pt --shuffle_images       control: the effect of the images
python eval.py --checkpoint runs/change_detector/best.pt                  OA, mIoU, SeK, F_scd

Writes scores.json and captions.json to --output DIR. By default this is a folder beside the checkpoint:
`test` for the standard evaluation; other settings are appended, as in test_beam_size_1 or test_void_maps.
scores.json records checkpoint, data and settings (`evaluation`). --shuffle_images captions each pair from the
images of another pair.
"""

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from configs import Config
from configs.command_line import CommandLine
from data.atomic_write import check_writable
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.hdf5 import VIEWS
from data.json_file import read_json
from data.maps.settings import MapSettings
from data.no_change import sentences_in_use
from data.splits import Reader, check_maps, check_size, open_split
from data.vocabulary import Vocabulary
from models.precision import tune_convolutions
from tools.engine import detection_task
from tools.engine.captioning import predict, to_captions
from tools.engine.checkpoint import Content, read_over_checkpoint, restore_model, stored_config
from tools.engine.device import pick_device
from tools.engine.distributed import Processes
from tools.engine.provenance import describe_evaluation, folder_name
from tools.engine.true_maps import add_map_scores
from tools.engine.uncaptioned import refuse_uncaptioned
from tools.scoring import AuthorsRecord, Record, pair_scores, score
from tools.scoring.baselines import TrainingCaptions, training_captions
from tools.scoring.fact_scores import add_facts, facts_of_setting
from tools.scoring.meteor import Meteor
from tools.scoring.metrics import optional_metrics
from tools.scoring.results import CaptionEntry, CaptionScores, Evaluation, write_captions, write_scores
from tools.scoring.table import format_table


def main(argv: list[str] | None = None) -> None:
    config, options, content = read_over_checkpoint(make_parser(), argv)
    standard = stored_config(content)
    detects = standard.model.task == "detection"
    name = folder_name(options.split, config, options.shuffle_images, standard)
    name += "_last" * (options.checkpoint.name == "last.pt")
    output = options.output or options.checkpoint.parent / name
    if detects and options.shuffle_images:
        raise UserError("--shuffle_images is a control of captions, a change detector has none: leave it out")
    if not detects:
        refuse_uncaptioned(options.split, config.data, options.checkpoint)
    evaluation = describe_evaluation(
        options.checkpoint, config, options.split, shuffled=options.shuffle_images
    )
    if not options.output:
        refuse_other_data(output / "scores.json", evaluation)
    if detects:
        detection_task.evaluate(content, config, evaluation, output)
        return
    evaluate(content, config, evaluation, output, shuffled=options.shuffle_images)


def evaluate(
    content: Content, config: Config, evaluation: Evaluation, output: Path, *, shuffled: bool
) -> None:
    """Caption the splits of `evaluation` with the model of a checkpoint, score the captions, write both."""
    facts_of_setting(config.data.facts)  # fail before captioning if the file is not one of word lists
    model, vocabulary = restore_model(content)
    device = pick_device(config.decode.device)
    tune_convolutions(device)
    processes = Processes.join(device)
    if processes.writes:
        check_writable(output, "--output", folder=True)
    model.to(device)
    splits = [open_split(split, config.data) for split in evaluation["splits"]]
    for reader, rows in splits:
        check_size(reader, content["image_size"])
        check_maps(reader, MapSettings.stored(content), config.data.maps, model.views)
        if shuffled:
            other_pairs(rows)  # fail before captioning if a split cannot be shuffled
    with Meteor() if processes.writes else nullcontext() as meteor:
        captions = []
        for reader, rows in splits:
            images_of = other_pairs(rows) if shuffled else None
            samples = ChangeCaptions(
                reader, rows=rows, captions="none", maps=config.data.maps, images_of=images_of
            )
            hypotheses = predict(model, samples, vocabulary, config, processes, meteor)
            captions += to_captions(hypotheses, samples, vocabulary)
        processes.leave()
        if not processes.writes:
            return
        scores = score_captions(captions, splits, content, config, meteor)
    publish(scores, captions, evaluation, output)


def score_captions(
    captions: list[CaptionEntry],
    splits: Sequence[tuple[Reader, list[int]]],
    content: Content,
    config: Config,
    meteor: Meteor,
) -> CaptionScores:
    """The content of scores.json. Adds each pair's own scores to `captions`.

    captions: of the pairs in use of all splits, in order.
    """
    pairs, data_sentences = [], {}
    for reader, rows in splits:
        pairs += [(reader, row) for row in rows]
        data_sentences |= dict.fromkeys(reader.no_change)
    records, authors, map_changed = [], [], []
    for entry, (reader, row) in zip(captions, pairs, strict=True):
        caption, source = entry["caption"], reader.sources[row]
        records.append(Record(entry["filename"], caption, entry["references"], entry["changed"], source))
        authors.append(authors_record(caption, reader, row))
        map_changed.append(bool(reader.views(row)[VIEWS.index("sem_b")].any()))
    human_words = all(reader.has_human_words for reader, _ in splits)
    training, no_training = floor_candidates(content, config, human_words, meteor)
    scores = score(
        records,
        meteor,
        no_change=sentences_in_use(config.data.no_change, content, tuple(data_sentences)),
        training=training,
        no_training=no_training,
        authors=authors,
        decisions={'rule "the given map B is not empty"': map_changed},
        human_words=human_words,
        optional=optional_metrics(),
        facts=config.data.facts,
    )
    for entry, scores_of_pair in zip(captions, pair_scores(records, meteor), strict=True):
        entry["scores"] = scores_of_pair
    if human_words:
        add_facts(captions, config.data.facts)
        add_map_scores(scores, captions, pairs, config.data.facts)
    return scores


def make_parser() -> CommandLine:
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt or last.pt of a run folder")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    parser.add_argument(
        "--shuffle_images", action="store_true", help="control: caption pairs from the images of others"
    )
    parser.add_argument("--output", type=Path | None, help="folder for scores.json and captions.json")
    return parser


def refuse_other_data(path: Path, evaluation: Evaluation) -> None:
    """UserError if a scores.json of the same checkpoint on other data would be replaced."""
    if not path.is_file():
        return
    scores = read_json(path, "delete it, or name another folder with --output")
    old = scores.get("evaluation") if isinstance(scores, dict) else None
    if old and old.get("sha256") == evaluation["sha256"] and old.get("data") != evaluation["data"]:
        raise UserError(
            f"{path} holds the scores on other data ({old.get('data_dir')}): name another folder with "
            "--output, or delete it"
        )


def other_pairs(rows: Sequence[int]) -> list[int]:
    """A random permutation of the pairs that maps no pair to itself."""
    if len(rows) < 2:
        raise UserError("--shuffle_images needs at least two pairs, the split has one: leave it out")
    order = np.random.default_rng(0).permutation(len(rows))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return [rows[index] for index in others]


def publish(
    scores: CaptionScores, captions: list[CaptionEntry], evaluation: Evaluation, output: Path
) -> None:
    """Write scores.json and captions.json, and print the table."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_captions(output / "captions.json", captions)
        write_scores(output / "scores.json", {**scores, "evaluation": evaluation})
    finally:  # print the scores even if the disk is full
        print(format_table(scores))
    warn_of_other_sentences(captions, scores["no_change"])
    distinct = len({entry["caption"] for entry in captions})
    print(
        f"\npairs: {len(captions)}, distinct captions: {distinct}; scores.json and captions.json in {output}"
    )


def floor_candidates(
    content: Content, config: Config, human_words: bool, meteor: Meteor
) -> tuple[TrainingCaptions | None, str]:
    """The training captions that the floors are chosen from, or None and the reason.

    For imported checkpoints and those of earlier versions, which hold no training captions, they are read
    from the train split in `data.dir`. Without human words there are no floors.
    """
    if content.get("train_captions"):
        return TrainingCaptions(content["train_captions"], content["train_constants"], "the checkpoint"), ""
    if not human_words:
        return None, ""
    try:
        reader, rows = open_split("train", config.data)
    except (OSError, UserError) as error:
        return None, (
            "no floors: the checkpoint holds no training captions, and data.dir has none to read instead "
            f"({error})"
        )
    return training_captions(reader, rows, meteor), ""


def warn_of_other_sentences(captions: list[CaptionEntry], no_change: list[str]) -> None:
    """Print a warning if no unchanged pair has a no-change sentence among its references."""
    unchanged = [entry["references"] for entry in captions if not entry["changed"]]
    if unchanged and not any(set(no_change) & set(references) for references in unchanged):
        print(
            f"WARNING: none of the unchanged pairs ({len(unchanged)}) has a no-change sentence among its "
            "references: check data.no_change, which decides which captions mean no change",
            file=sys.stderr,
        )


def authors_record(caption: str, reader: Reader, row: int) -> AuthorsRecord:
    """A pair as the authors' code scores it: references decoded from stored ids, METEOR on ids as text."""
    references = [reader.vocabulary.decode(ids) for ids in reader.tokens[row]]
    caption_ids, *reference_ids = (
        id_string(sentence, reader.vocabulary) for sentence in [caption, *references]
    )
    return AuthorsRecord(caption, references, caption_ids, reference_ids, reader.sources[row])


def id_string(sentence: str, vocabulary: Vocabulary) -> str:
    """ "the scene is" -> "12 5 88"."""
    words = sentence.split()
    return " ".join(str(token) for token in vocabulary.encode(words, len(words))[1:-1])


if __name__ == "__main__":
    cli.run(main)
