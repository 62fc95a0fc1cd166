"""Caption image pairs with a trained model.

python caption.py before.png after.png map_before.png map_after.png
python caption.py before.png after.png                                without maps: both are void
python caption.py before.png after.png mask.png --mask_class building a 0/255 mask of what appeared
python caption.py before.png after.png --detector detector.pt         without maps: found by a change detector
python caption.py before.png after.png --answers 4 --json             several, with log-probabilities
python caption.py before.png after.png --picture caption.png          pair, maps and caption drawn
python caption.py before.png after.png --attention words.png          what each word was chosen from
python caption.py --pairs pairs.csv --output captions.csv             columns img_A, img_B, seg_A, seg_B

Without --checkpoint the newest runs/*/best.pt answers. Captions go to standard output, remarks to standard
error.
"""

from tools import command  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jsonargparse.typing import PositiveInt

from configs import CommandLine, Config, early_option
from data.atomic_write import write_text
from data.images import stack_views
from data.pair_files import COLUMNS, Entry, one_pair, read_files, read_pairs_file, tell_maps
from data.palette import MASK_CLASSES
from data.vocabulary import Vocabulary
from models import autocast, pick_device
from models.checkpoint import load_checkpoint, model_name, restore_model
from models.mmodalcc import MModalCC
from tools.absent_maps import MapFinder
from tools.wording import number_of


def main(argv: list[str] | None = None) -> None:
    named = early_option(argv, "--checkpoint")
    checkpoint, content = (named, load_checkpoint(named)) if named else newest_captioner()
    parser = CommandLine(__doc__, "decode")
    parser.add_argument("images", nargs="*", metavar="IMG_A IMG_B [[SEG_A] SEG_B]", help="one pair's files")
    parser.add_argument(
        "--pairs", type=Path | None, help="CSV or JSON with columns img_A, img_B and, if any, seg_A, seg_B"
    )
    parser.add_argument(
        "--checkpoint", type=Path | None, help="best.pt of a run; default: the newest runs/*/best.pt"
    )
    parser.add_argument("--detector", type=Path | None, help="a change detector's best.pt finds absent maps")
    parser.add_argument("--maps_to", type=Path | None, help="folder for the maps that --detector finds")
    parser.add_argument(
        "--answers", type=PositiveInt, default=1, help="how many captions of a pair, at most the beams"
    )
    parser.add_argument("--json", action="store_true", help="captions with log-probabilities as JSON")
    parser.add_argument("--output", type=Path | None, help="file for the captions of --pairs (.csv or .json)")
    parser.add_argument("--picture", type=Path | None, help="draw the pair and its caption into this file")
    parser.add_argument(
        "--attention", type=Path | None, help="draw what each word of the caption looked at into this file"
    )
    parser.add_argument(
        "--mask_class",
        type=Literal[MASK_CLASSES] | None,
        help="the class that maps of 0 and 255 show; default: that of the checkpoint's training data",
    )
    config, options = parser.read(argv, content.get("config"))
    if not checkpoint:
        raise FileNotFoundError(
            "no runs/*/best.pt here: train a model with train.py, or name one with --checkpoint FILE"
        )
    if not options.checkpoint:
        print(f"checkpoint {checkpoint}", file=sys.stderr)
    entries = read_pairs_file(options.pairs) if options.pairs else [one_pair(options.images)]
    check_options(options, config)
    tell_maps(entries, config.model.modalities, "detected" if options.detector else "void")

    model, vocabulary = restore_model(content)
    model.to(pick_device(config.decode.device))
    size = tuple(content["image_size"])
    mask_class = options.mask_class or content.get("mask_class")
    finder = MapFinder(options.detector, options.maps_to, entries, size, config) if options.detector else None
    captions = []
    for first in range(0, len(entries), config.decode.batch_size):
        chosen = entries[first : first + config.decode.batch_size]
        pairs = [read_files(entry, mask_class) for entry in chosen]
        if finder:
            finder.complete(chosen, pairs)
        batch = np.stack([fit(entry, views, size) for entry, views in zip(chosen, pairs, strict=True)])
        captions += caption_pairs(model, batch, vocabulary, config, options.answers)
    answers = [describe(entry, found) for entry, found in zip(entries, captions, strict=True)]
    if options.picture or options.attention:
        draw(options, pairs[0], model, batch[0], answers[0]["caption"], vocabulary)
    publish(answers, options)


def newest_captioner() -> tuple[Path | None, dict[str, Any]]:
    """The best.pt of a captioning model that was written last under runs/, and its content."""
    for path in sorted(Path("runs").glob("*/best.pt"), key=lambda path: path.stat().st_mtime, reverse=True):
        content = load_checkpoint(path)
        if model_name(content) == "mmodalcc":
            return path, content
    return None, {}


def check_options(options: Any, config: Config) -> None:
    if options.answers > config.decode.beam_size:
        raise ValueError(
            f"--answers {options.answers} needs as many beams: raise --decode.beam_size, "
            f"now {config.decode.beam_size}"
        )
    if options.pairs and (options.picture or options.attention):
        raise ValueError("--picture and --attention draw one pair: give its images instead of --pairs")
    if options.output and not options.pairs:
        raise ValueError("--output takes the captions of --pairs: one pair's caption goes to standard output")
    if options.maps_to and not options.detector:
        raise ValueError("--maps_to takes the maps that a change detector finds: add --detector FILE")


def fit(entry: Entry, views: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The four views of a pair, (4, 3, H, W) uint8, in the size that the model was trained on."""
    height, width = views[0].shape[:2]
    if (height, width) != size:
        print(f"{entry['img_A']}: resized from {height} x {width} to {size[0]} x {size[1]}", file=sys.stderr)
    return stack_views(views, size)


def caption_pairs(
    model: MModalCC, views: np.ndarray, vocabulary: Vocabulary, config: Config, answers: int
) -> list[list[dict[str, Any]]]:
    """views (B, 4, 3, H, W) uint8 -> for each pair its answers, the best first."""
    device = model.mean.device
    with autocast(device, config.decode.precision):
        found = model.caption(
            torch.from_numpy(views).to(device),
            start=vocabulary.start,
            end=vocabulary.end,
            beam_size=config.decode.beam_size,
            best=answers,
        )
    return [
        [{"caption": vocabulary.decode(h.tokens), "log_prob": h.log_prob} for h in pair] for pair in found
    ]


def describe(entry: Entry, found: list[dict[str, Any]]) -> dict[str, Any]:
    """A row of the output: the pair's files, its best caption, and all answers where several were asked
    for."""
    row = {column: str(path) if path else "" for column, path in entry.items()} | found[0]
    return row | ({"answers": found} if len(found) > 1 else {})


def draw(
    options: Any,
    files: list[np.ndarray],
    model: MModalCC,
    views: np.ndarray,
    caption: str,
    vocabulary: Vocabulary,
) -> None:
    """The pictures asked for; they show the four images (H, W, 3) uint8 as large as in their files."""
    from tools.drawing import draw_attention, draw_pair  # matplotlib takes a second, and only this needs it

    shown = np.stack(files).transpose(0, 3, 1, 2)
    if options.picture:
        draw_pair(options.picture, shown, caption)
        print(f"picture in {options.picture}", file=sys.stderr)
    if options.attention:
        draw_attention(options.attention, shown, *attention_of(model, views, caption, vocabulary))
        print(f"attention in {options.attention}", file=sys.stderr)


def attention_of(
    model: MModalCC, views: np.ndarray, caption: str, vocabulary: Vocabulary
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """What MGCA did to choose each word of a caption, given the pair's views (4, 3, H, W) uint8.

    Returns the words, `<end>` the last; the attention over the RGB and over the map grid, (T, h, w) each; the
    RGB, map and word gates (T, 3). ValueError where the model lacks a modality or MGCA.
    """
    words, device = caption.split(), model.mean.device
    tokens = vocabulary.encode(words, len(words))
    tokens = tokens[: len(model.decoder.positions) + 1]  # the longest caption has no room for <end>
    seen = model.attention(
        torch.from_numpy(views).to(device).unsqueeze(0), torch.tensor([[tokens[:-1]]], device=device)
    )
    if list(seen.gates) != ["rgb", "sem", "word"]:
        raise ValueError(
            "--attention draws the gates of images, maps and word: this model has "
            f"{' and '.join(seen.gates) or 'none'}, leave --attention out"
        )
    side = math.isqrt(seen.grids["rgb"].shape[-1])
    rgb, sem = (grid[0, 0].unflatten(-1, (side, side)).cpu().numpy() for grid in seen.grids.values())
    gates = torch.stack([gate[0, 0] for gate in seen.gates.values()], dim=-1)
    return [vocabulary.words[token] for token in tokens[1:]], rgb, sem, gates.cpu().numpy()


def publish(answers: list[dict[str, Any]], options: Any) -> None:
    """One sentence a line for people; JSON or CSV for scripts."""
    if not options.pairs:
        found = answers[0].get("answers", [answers[0]])
        text = (
            json.dumps(answers[0], indent=1)
            if options.json
            else "\n".join(
                f"{a['caption']}\t{a['log_prob']:.3f}" if len(found) > 1 else a["caption"] for a in found
            )
        )
    elif options.json or (options.output and options.output.suffix == ".json"):
        text = json.dumps(answers, indent=1)
    else:
        table = io.StringIO()
        writer = csv.DictWriter(
            table, [*COLUMNS, "caption", "log_prob"], extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(answers)
        text = table.getvalue().rstrip("\n")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.output, text + "\n")
        print(f"{number_of(len(answers), 'caption')} in {options.output}", file=sys.stderr)
    else:
        print(text)


if __name__ == "__main__":
    command.run(main)
