"""Fit the temperature of the probability of change to a checkpoint that has none.

python tools/calibrate.py --checkpoint runs/old/best.pt --output runs/old/calibrated.pt
python tools/calibrate.py --checkpoint imported.pt --output calibrated.pt --data.dir createdFileBlackAUG

train.py fits it after each epoch; checkpoints of earlier versions and imported ones lack it. The pairs of the
val split are captioned, and the probability of change that best fits them is stored in a copy of the
checkpoint, whose captions stay the same.
"""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
from configs.command_line import CommandLine
from data.atomic_write import check_writable
from data.dataset import ChangeCaptions
from data.errors import UserError
from data.maps.settings import MapSettings
from data.no_change import sentences_in_use
from data.splits import check_maps, check_size, open_split
from tools.engine.captioning import predict, temperature_of
from tools.engine.checkpoint import read_over_checkpoint, restore_model, save_checkpoint
from tools.engine.decoding import CaptionDecoding
from tools.engine.device import pick_device
from tools.engine.distributed import Processes


def main(argv: list[str] | None = None) -> None:
    config, options, content = read_over_checkpoint(make_parser(), argv)
    check_writable(options.output, "--output")
    if options.output.exists() and options.output.samefile(options.checkpoint):
        raise UserError(f"--output {options.output} is the checkpoint: name another file")
    model, vocabulary = restore_model(content)
    reader, rows = open_split("val", config.data)
    check_size(reader, content["image_size"])
    check_maps(reader, MapSettings.stored(content), config.data.maps, model.views)
    model.to(pick_device(config.decode.device))
    no_change = sentences_in_use(config.data.no_change, content, reader.no_change)
    settings = replace(config.decode, beam_size=1, change_threshold=None)
    decoding = CaptionDecoding(model, vocabulary, no_change, settings)
    samples = ChangeCaptions(reader, rows=rows, captions="none", maps=config.data.maps)
    temperature = temperature_of(predict(decoding, samples, config, Processes()), samples)
    if temperature is None:
        raise UserError(
            f"{reader.path} must have changed and unchanged pairs, and the model must know a no-change "
            "sentence: give other data with --data.dir, or sentences with --data.no_change"
        )
    save_checkpoint(
        options.output, {**content, "no_change": list(no_change), "change_temperature": temperature}
    )
    print(f"temperature {temperature:.3f} from {len(rows)} val pairs, in {options.output}")


def make_parser() -> CommandLine:
    parser = CommandLine(__doc__, "data", "decode")
    parser.add_argument("--checkpoint", type=Path, required=True, help="best.pt of a captioning run")
    parser.add_argument("--output", type=Path, required=True, help="file for the calibrated copy")
    return parser


if __name__ == "__main__":
    cli.run(main)
