"""Caption a split with a checkpoint's model and score the captions beside their floor.

python eval.py --checkpoint runs/second_cc/best.pt
python eval.py --checkpoint runs/second_cc/best.pt --split val test --decode.beam_size 1
python eval.py --checkpoint runs/second_cc/best.pt --data.maps void       control: what the maps give
python eval.py --checkpoint runs/second_cc/best.pt --shuffle_images       control: what the images give

--output DIR gets scores.json and captions.json; the default is a folder beside the checkpoint, named after the
split and the control. With --shuffle_images each pair is captioned from another pair's images.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from configs import CommandLine, Config, DecodeConfig, early_option
from data.dataset import ChangeCaptions, make_loader, open_split
from data.hdf5 import VIEWS, SplitReader
from data.vocabulary import Vocabulary
from models import autocast, pick_device
from models.beam_search import Hypothesis
from models.checkpoint import load_checkpoint, restore_model
from models.mmodalcc import MModalCC
from tools import command
from tools.meteor import Meteor
from tools.score_table import format_table
from tools.scoring import Record, ReleasedRecord, pair_scores, score


def main(argv: list[str] | None = None) -> None:
    checkpoint = early_option(argv, "--checkpoint")
    content = load_checkpoint(checkpoint) if checkpoint else {}
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt or last.pt of a run folder")
    parser.add_argument("--split", nargs="+", default=["test"], choices=("train", "val", "test"))
    parser.add_argument(
        "--shuffle_images", action="store_true", help="control: show each pair another one's images"
    )
    parser.add_argument("--output", type=Path | None, help="folder for scores.json and captions.json")
    config, options = parser.read(argv, content.get("config"))
    output = options.output or options.checkpoint.parent / output_name(
        options.split, config, options.shuffle_images
    )
    model, vocabulary = restore_model(content)
    model.to(pick_device(config.decode.device))

    captions, released, map_changed = [], [], []
    for split in options.split:
        reader, rows = open_split(split, config.data)
        check_size(reader, content["image_size"])
        samples = ChangeCaptions(
            reader,
            rows=rows,
            captions="none",
            void_maps=config.data.maps == "void",
            images_of=np.random.default_rng(0).permutation(rows) if options.shuffle_images else None,
        )
        loader = make_loader(samples, config.data, batch_size=config.decode.batch_size)
        found = to_captions(predict(model, loader, vocabulary, config.decode), reader, rows, vocabulary)
        captions += found
        released += [
            released_record(entry["caption"], reader, row) for entry, row in zip(found, rows, strict=True)
        ]
        map_changed += [bool(reader.views(row)[VIEWS.index("sem_b")].any()) for row in rows]

    records = [Record(c["filename"], c["caption"], c["references"], c["changed"]) for c in captions]
    with Meteor() as meteor:
        scores = score(
            records,
            meteor,
            no_change=config.data.no_change,
            common_captions=content["common_captions"],
            released=released,
            decisions={'rule "map B is not empty"': map_changed},
        )
        for entry, own in zip(captions, pair_scores(records, meteor), strict=True):
            entry["scores"] = own
    output.mkdir(parents=True, exist_ok=True)
    (output / "scores.json").write_text(json.dumps(scores, indent=1))
    (output / "captions.json").write_text(
        json.dumps(captions, indent=1, ensure_ascii=False), encoding="utf-8"
    )
    print(format_table(scores))
    distinct = len({entry["caption"] for entry in captions})
    print(
        f"\n{distinct} different captions of {len(captions)} pairs; scores.json and captions.json in {output}"
    )


def check_size(reader: SplitReader, image_size: list[int]) -> None:
    if list(reader.image_size) != image_size:
        raise ValueError(
            f"{reader.path} holds images of {reader.image_size}, the model was trained on {tuple(image_size)}: "
            f"prepare them with tools/create_input_files.py --image_size {image_size[0]}"
        )


def released_record(caption: str, reader: SplitReader, row: int) -> ReleasedRecord:
    """A pair as the released code scores it: references read back from the stored ids, METEOR over ids as
    text."""
    references = [reader.vocabulary.decode(ids) for ids in reader.tokens[row]]
    caption_ids, *reference_ids = (
        id_string(sentence, reader.vocabulary) for sentence in [caption, *references]
    )
    return ReleasedRecord(caption, references, caption_ids, reference_ids)


def id_string(sentence: str, vocabulary: Vocabulary) -> str:
    """ "the scene is" -> "12 5 88"."""
    words = sentence.split()
    return " ".join(str(token) for token in vocabulary.encode(words, len(words))[1:-1])


def output_name(splits: list[str], config: Config, shuffled: bool) -> str:
    """Folder beside the checkpoint: the splits and what was taken from the model."""
    controls = ["void_maps"] * (config.data.maps == "void") + ["shuffled"] * shuffled
    return "_".join(splits + controls)


def predict(
    model: MModalCC,
    loader: DataLoader,
    vocabulary: Vocabulary,
    decode: DecodeConfig,
    beam_size: int | None = None,
) -> list[Hypothesis]:
    """The best caption of every pair of a loader, in its order."""
    model.eval()
    device = next(model.parameters()).device
    best = []
    progress = tqdm(total=len(loader.dataset), desc="captioning", unit="pair", leave=False)
    for batch in loader:
        views = batch["views"].to(device, non_blocking=True)
        with autocast(device, decode.precision):
            answers = model.caption(
                views, start=vocabulary.start, end=vocabulary.end, beam_size=beam_size or decode.beam_size
            )
        best += [ranked[0] for ranked in answers]
        progress.update(len(views))
    progress.close()
    return best


def to_captions(
    hypotheses: list[Hypothesis], reader: SplitReader, rows: list[int], vocabulary: Vocabulary
) -> list[dict[str, Any]]:
    """captions.json without the scores: one entry for each row, in order."""
    return [
        {
            "filename": reader.filenames[row],
            "caption": vocabulary.decode(hypothesis.tokens),
            "log_prob": hypothesis.log_prob,
            "references": reader.references[row],
            "changed": bool(reader.changed[row]),
        }
        for row, hypothesis in zip(rows, hypotheses, strict=True)
    ]


if __name__ == "__main__":
    command.run(main)
