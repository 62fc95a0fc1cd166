"""Convert a checkpoint of the authors' code, or of Chg2Cap's, for eval.py, caption.py and train.py.

python tools/import_authors.py BEST_checkpoint.pth.tar --word_map WORDMAP_SECOND_CC.json --output authors.pt
python tools/import_authors.py MODEL.pth --model chg2cap --word_map vocab.json --output chg2cap.pt

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
from models.authors.chg2cap_checkpoint import chg2cap_state, read_chg2cap_checkpoint, read_chg2cap_words
from models.authors.pickle_reader import read_authors_checkpoint
from tools.engine.checkpoint import Content, save_checkpoint

CONFIGS = Path(configs.__file__).parent
IMAGE_SIZE = (256, 256)  # of all the authors' files


def mmodalcc_content(path: Path, word_map: Path) -> Content:
    """The content of our checkpoint for a checkpoint of MModalCC's authors."""
    vocabulary = read_word_map(word_map)
    authors = read_authors_checkpoint(path)
    config = configs.command_line.load(CONFIGS / "second_cc_authors.yaml")
    config = replace(config, model=model_settings(authors, config.model))
    return {
        "model": our_state(authors, config.model, len(vocabulary)),
        "config": config.to_dict(),
        "vocabulary": list(vocabulary.words),
        "epoch": authors.epoch,
        "scores": authors.scores,
    }


def chg2cap_content(path: Path, word_map: Path) -> Content:
    """The content of our checkpoint for a checkpoint of Chg2Cap's authors, whose epoch is unknown."""
    vocabulary = read_chg2cap_words(word_map)
    config = configs.command_line.load(CONFIGS / "rivals" / "chg2cap.yaml")
    return {
        "model": chg2cap_state(read_chg2cap_checkpoint(path), config.model, len(vocabulary)),
        "config": config.to_dict(),
        "vocabulary": list(vocabulary.words),
        "epoch": 0,
        "scores": {},
    }


IMPORTERS = {"mmodalcc": mmodalcc_content, "chg2cap": chg2cap_content}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file of the authors' code")
    parser.add_argument("--model", choices=IMPORTERS, default="mmodalcc", help="whose code wrote the file")
    parser.add_argument("--word_map", type=Path, required=True, help="word -> id (JSON) of its training")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write")
    options = parser.parse_args(argv)
    if options.output.exists() and options.output.samefile(options.checkpoint):
        raise UserError(f"--output {options.output} must not be the input file: choose another file")
    check_writable(options.output, "--output")
    content = IMPORTERS[options.model](options.checkpoint, options.word_map)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(options.output, {**content, "image_size": list(IMAGE_SIZE)})
    print(
        f"{options.output}: {content['config']['model']['trunk']}, {len(content['vocabulary'])} words, "
        f"epoch {content['epoch']}"
        f"{''.join(f', {name} {value:.4g}' for name, value in content['scores'].items())}"
    )


if __name__ == "__main__":
    cli.run(main)
