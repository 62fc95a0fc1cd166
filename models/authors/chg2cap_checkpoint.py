"""Converts a checkpoint of Chg2Cap's authors, three state dicts, to the state dict of `models.chg2cap`."""

import re
from pathlib import Path

import torch
from torch import Tensor

from data.errors import UserError
from data.json_file import read_json
from data.vocabulary import END, PAD, START, UNK, Vocabulary
from models import build_model
from models.authors.rival_names import NAMES, authors_name, our_value
from models.chg2cap import Settings
from models.decoder import sinusoids
from models.safe_load import safe_load, why_unreadable
from models.state_dict import first_misfit

SPECIALS = {"<NULL>": PAD, "<UNK>": UNK, "<START>": START, "<END>": END}  # the authors' names and ours
TRUNK = tuple(
    (f"encoder.trunk.{ours}", f"encoder_dict.cnn.{number}")
    for number, ours in ((0, "conv1"), (1, "bn1"), (4, "layer1"), (5, "layer2"), (6, "layer3"), (7, "layer4"))
)
PARTS = ("encoder_dict", "encoder_trans_dict", "decoder_dict")
POSITIONS = "decoder_dict.position_encoding.pe"
UNUSED = re.compile(  # what the forward pass of the authors' code does not use
    r"encoder_trans_dict\.selftrans\.\d+\.[01]\.att\.to_v\..+"
    r"|decoder_dict\.(position_encoding\.embedding_1D\..+|transformer\.layers\.\d+\.fc_alpha[123]\..+)"
)


def chg2cap_name(name: str) -> str:
    """The authors' name of our parameter, after the name of its state dict."""
    part, _, rest = name.partition(".")
    if part == "encoder":
        return authors_name(name, TRUNK)
    fusion, decoder = NAMES["chg2cap"]
    theirs = authors_name(rest, fusion if part == "fusion" else decoder)
    in_decoder = part == "decoder" or rest.startswith(("join.", "block."))
    return f"{'decoder_dict' if in_decoder else 'encoder_trans_dict'}.{theirs}"


def read_chg2cap_words(path: Path) -> Vocabulary:
    """The vocabulary of the authors' word map, a JSON object of word -> id."""
    ids = read_json(path, "give the vocabulary of Chg2Cap's code")
    try:
        return Vocabulary.from_word_map({SPECIALS.get(word, word): index for word, index in ids.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} must hold a word map, word -> id: {error}") from None


def read_chg2cap_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint in use, by state dict and name; no code from the file is executed."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: give a checkpoint of Chg2Cap's code")
    try:
        content = safe_load(path)
    except Exception as error:  # of many kinds, for foreign, damaged or hostile files
        raise UserError(f"{path} is refused ({why_unreadable(error)}): it may hold only tensors") from None
    tensors = {}
    for part in PARTS:
        if not isinstance(content, dict) or not isinstance(content.get(part), dict):
            raise UserError(f"{path} is not a checkpoint of Chg2Cap's code: it has no {part}")
        tensors |= {f"{part}.{name}": value for name, value in content[part].items()}
    if strangers := [name for name, value in tensors.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path} is not a checkpoint of Chg2Cap's code: {strangers[0]} is not a tensor")
    return {name: value for name, value in tensors.items() if not UNUSED.fullmatch(name)}


def chg2cap_state(tensors: dict[str, Tensor], settings: Settings, vocabulary_size: int) -> dict[str, Tensor]:
    """The state dict of the model of `settings`. UserError names a tensor that is missing or does not fit."""
    with torch.device("meta"):  # only the shapes are needed: the values come from the file
        expected = build_model(settings, vocabulary_size, pretrained=False).state_dict()
    theirs = {name: chg2cap_name(name) for name in expected}
    fitting = dict(tensors)
    _check_positions(fitting.pop(POSITIONS, None), settings.width)
    for name, original in theirs.items():
        if original in tensors:
            fitting[original] = our_value(original.partition(".")[2], tensors[original], expected[name])
    if reason := first_misfit({theirs[name]: value for name, value in expected.items()}, fitting):
        raise UserError(f"the checkpoint {reason}: it is not Chg2Cap with {vocabulary_size} words")
    return {name: fitting[original] for name, original in theirs.items()}


def _check_positions(positions: Tensor | None, width: int) -> None:
    """UserError if a file has positions other than the sinusoids, up to float32 rounding of the angle."""
    if positions is None:
        return
    if positions.dim() and positions.shape[-1] == width and positions.is_floating_point():
        rows = positions.flatten(0, -2) if positions.dim() > 1 else positions.unsqueeze(0)
        tolerance = 1e-6 * (1 + torch.arange(len(rows))).unsqueeze(1)
        if ((rows - sinusoids(len(rows), width)).abs() <= tolerance).all():
            return
    raise UserError(f"{POSITIONS} of the checkpoint are not the sinusoids of Chg2Cap's code")
