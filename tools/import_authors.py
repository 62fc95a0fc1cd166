"""Convert a checkpoint of the authors' code for eval.py, caption.py and train.py.

python tools/import_authors.py BEST_checkpoint.pth.tar --word_map WORDMAP_SECOND_CC.json --output authors.pt

No code from the file is executed. Afterwards:
python eval.py --checkpoint authors.pt
python train.py --config configs/second_cc_authors.yaml --train.start_from authors.pt
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.engine import cli  # first: it sets how OpenMP's threads wait, before torch starts them

# isort: split
import configs
from data.atomic_write import check_writable
from data.authors_files import read_word_map
from data.errors import UserError
from models.authors.checkpoint import model_settings, our_state
from models.authors.pickle_reader import read_authors_checkpoint
from tools.engine.checkpoint import save_checkpoint

CONFIG = Path(configs.__file__).parent / "second_cc_authors.yaml"
IMAGE_SIZE = (256, 256)  # of all the authors' files


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file of the authors' code")
    parser.add_argument("--word_map", type=Path, required=True, help="WORDMAP_*.json of its training")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    options = parser.parse_args(argv)
    if options.output.exists() and options.output.samefile(options.checkpoint):
        raise UserError(f"--output {options.output} must not be the input file: choose another file")
    check_writable(options.output, "--output")
    vocabulary = read_word_map(options.word_map)
    authors = read_authors_checkpoint(options.checkpoint)
    config = configs.command_line.load(CONFIG)
    config = replace(config, model=model_settings(authors, config.model))
    content = {
        "model": our_state(authors, config.model, len(vocabulary)),
        "config": config.to_dict(),
        "vocabulary": list(vocabulary.words),
        "image_size": list(IMAGE_SIZE),
        "epoch": authors.epoch,
        "scores": authors.scores,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(options.output, content)
    print(
        f"{options.output}: {config.model.trunk}, {len(vocabulary)} words, epoch {authors.epoch}"
        f"{''.join(f', {name} {value:.4g}' for name, value in authors.scores.items())}"
    )


if __name__ == "__main__":
    cli.run(main)
