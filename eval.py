"""Evaluate a captioning model or a change detector on a split.

python eval.py --checkpoint runs/second_cc/best.pt
python eval.py --checkpoint runs/second_cc/best.pt --split val test --decode.beam_size 1
python eval.py --checkpoint runs/second_cc/best.pt --data.maps void       control: the effect of the maps
python eval.py --checkpoint runs/second_cc/best.pt --data.maps detected   after tools/detect_maps.py
python eval.py --checkpoint runs/second_cc/best.pt --shuffle_images       control: the effect of the images
python eval.py --checkpoint a/best.pt b/best.pt c/best.pt                 an ensemble of three models
python eval.py --checkpoint runs/change_detector/best.pt                  OA, mIoU, SeK, F_scd
python eval.py --captions theirs.json       the same as tools/score_captions.py theirs.json

Writes scores.json and captions.json to --output DIR. The default is a folder next to the checkpoint:
`test` for the standard evaluation; other settings are appended, as in test_beam_size_1 or test_void_maps.
scores.json records checkpoint, data and settings (`evaluation`). --shuffle_images captions each pair from the
images of another pair. An ensemble decodes with the mean of its members' log-probabilities; settings, floors
and the folder for the results are those of the first member.
"""

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

import tools.score_captions
from configs import Config
from configs.command_line import CommandLine, take_option
from data.atomic_write import check_writable
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.maps.settings import MapSettings
from data.no_change import sentences_in_use
from data.pair_files import RARE_CHANGE
from data.splits import check_maps, check_size, open_split
from models.precision import tune_convolutions
from tools.engine import detection_task
from tools.engine.captioning import predict, to_captions
from tools.engine.checkpoint import Content, read_over_checkpoint, stored_config
from tools.engine.decoding import CaptionDecoding, calibration_remark
from tools.engine.device import pick_device
from tools.engine.distributed import Processes
from tools.engine.ensemble import joined_content, load_members, restore_members
from tools.engine.evaluation import publish, score_captions
from tools.engine.provenance import describe_evaluation, folder_name, refuse_other_data
from tools.engine.uncaptioned import refuse_uncaptioned
from tools.scoring.fact_scores import facts_of_setting
from tools.scoring.meteor import Meteor
from tools.scoring.results import Evaluation


def main(argv: list[str] | None = None) -> None:
    captions, others = take_option(argv, "--captions")
    if captions:
        tools.score_captions.main([captions, *others])
        return
    config, options, content = read_over_checkpoint(make_parser(), argv)
    first, *others = options.checkpoint
    members = load_members(content, others)
    standard = stored_config(content)
    detects = standard.model.task == "detection"
    if detects and options.shuffle_images:
        raise UserError("--shuffle_images is a control of captions, a change detector has none: leave it out")
    if not detects:
        refuse_uncaptioned(options.split, config.data, first)
    evaluation = describe_evaluation(
        options.checkpoint, config, options.split, shuffled=options.shuffle_images
    )
    name = folder_name(options.split, config, options.shuffle_images, standard)
    name += "_last" * (first.name == "last.pt")
    name += f"_ensemble_{evaluation['sha256'][:8]}" * bool(others)
    output = options.output or first.parent / name
    replace = bool(options.output)
    if detects:
        detection_task.evaluate(content, config, evaluation, output, replace=replace)
        return
    evaluate(members, config, evaluation, output, shuffled=options.shuffle_images, replace=replace)


def evaluate(
    members: Sequence[Content],
    config: Config,
    evaluation: Evaluation,
    output: Path,
    *,
    shuffled: bool,
    replace: bool,
) -> None:
    """Caption the splits of `evaluation` with the model of one checkpoint or the ensemble of several, score
    the captions, write both.

    replace: whether scores on other data may be replaced.
    """
    facts_of_setting(config.data.facts)  # fail before captioning if the file is not one of word lists
    model, vocabulary = restore_members(members)
    content = joined_content(members)
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
    if not replace:
        refuse_other_data(output / "scores.json", evaluation)
    of_data = dict.fromkeys(text for reader, _ in splits for text in reader.no_change)
    no_change = sentences_in_use(config.data.no_change, content, tuple(of_data))
    decoding = CaptionDecoding(model, vocabulary, no_change, config.decode, content.get("change_temperature"))
    if processes.writes:
        for remark in calibration_remark(decoding):
            print(remark, file=sys.stderr)
    with Meteor() if processes.writes else nullcontext() as meteor:
        captions = []
        for reader, rows in splits:
            images_of = other_pairs(rows) if shuffled else None
            samples = ChangeCaptions(
                reader, rows=rows, captions="none", maps=config.data.maps, images_of=images_of
            )
            decoded = predict(decoding, samples, config, processes, meteor)
            captions += to_captions(decoded, samples, vocabulary)
        processes.leave()
        if not processes.writes:
            return
        scores = score_captions(captions, splits, content, config, meteor)
    publish(scores, captions, evaluation, output)
    void = config.data.maps == "void" and "sem_a" in model.views
    if void and not stored_config(content).data.has_void_maps:
        print(f"all maps were void, and {RARE_CHANGE}")


def make_parser() -> CommandLine:
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        nargs="+",
        required=True,
        help="best.pt or last.pt of a run folder; several form an ensemble",
    )
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    parser.add_argument(
        "--shuffle_images", action="store_true", help="control: caption pairs from the images of others"
    )
    parser.add_argument("--output", type=Path | None, help="folder for scores.json and captions.json")
    return parser


def other_pairs(rows: Sequence[int]) -> list[int]:
    """A random permutation of the pairs that maps no pair to itself."""
    if len(rows) < 2:
        raise UserError("--shuffle_images needs at least two pairs, the split has one: leave it out")
    order = np.random.default_rng(0).permutation(len(rows))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return [rows[index] for index in others]


if __name__ == "__main__":
    cli.run(main)
