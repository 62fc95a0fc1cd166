"""Restore the model that one or several checkpoints describe together."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from data.errors import UserError
from data.maps.settings import MapSettings
from data.palette import same_classes
from data.vocabulary import Vocabulary
from models.captioner import Captioner
from models.ensemble import Ensemble
from tools.engine.checkpoint import Content, load_checkpoint, path_of, restore_model


def split_checkpoints(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of --checkpoint as checkpoints and the arguments that follow them on the command line.

    The first is a checkpoint whatever its name, and so are the next ones until one does not end with .pt.
    """
    checkpoints = [*files[:1], *takewhile(lambda file: file.endswith(".pt"), files[1:])]
    return checkpoints, list(files[len(checkpoints) :])


def load_members(first: Content, others: Sequence[str | Path]) -> list[Content]:
    """The contents of all checkpoints of an ensemble; `first` is loaded already.

    UserError unless all of them have the vocabulary, the palette and the image size of the first.
    """
    members = [first]
    for path in others:
        member = load_checkpoint(path)
        _check_same(first, member)
        members.append(member)
    return members


def restore_members(members: Sequence[Content]) -> tuple[Captioner, Vocabulary]:
    """The model of a single checkpoint, or the ensemble of several; errors as in `restore_model`."""
    models = [restore_model(member) for member in members]
    model, vocabulary = models[0]
    return (Ensemble([model for model, _ in models]) if len(models) > 1 else model), vocabulary


def joined_content(members: Sequence[Content]) -> Content:
    """What a captioning command needs of the members besides their models: the parts of the first, with the
    no-change sentences of all. Several members have no temperature of change (tools/engine/decoding.py)."""
    if len(members) == 1:
        return members[0]
    content = dict(members[0])
    content.pop("change_temperature", None)
    if sentences := dict.fromkeys(text for member in members for text in member.get("no_change", ())):
        content["no_change"] = list(sentences)
    return content


def _check_same(first: Content, member: Content) -> None:
    first_size, size = tuple(first["image_size"]), tuple(member["image_size"])
    first_palette, palette = (MapSettings.stored(each).palette for each in (first, member))
    difference = None
    if "vocabulary" not in first or "vocabulary" not in member:
        missing = first if "vocabulary" not in first else member
        raise UserError(
            f"an ensemble has captioning models, {path_of(missing)} is none: give the best.pt of captioning "
            "runs to --checkpoint"
        )
    if first["vocabulary"] != member["vocabulary"]:
        lengths = [len(each["vocabulary"]) for each in (first, member)]
        difference = "vocabulary", "{} and {} words, in order".format(*lengths)
    elif not same_classes(first_palette, palette):
        difference = "palette", f"{first_palette.listed()} and {palette.listed()}"
    elif first_size != size:
        difference = "image size", f"{first_size} and {size}"
    if difference:
        raise UserError(
            f"the members of an ensemble must have the same {difference[0]}: {path_of(first)} and "
            f"{path_of(member)} have {difference[1]}: train them on the same input files"
        )
