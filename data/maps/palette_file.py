"""Read the palette of a data set from `palette.yaml` in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from data.errors import UserError
from data.json_file import read_text
from data.palette import BLACK, FORM, SECOND, WHITE, Palette

FILES = ("palette.yaml", "palette.yml")


def find_palette(dataset_dir: str | Path) -> tuple[Palette, Path | None]:
    """The palette of a data set and its file in the data set's folder; SECOND's and None without a file.

    dataset_dir: the folder, or a file in it.
    """
    root = Path(dataset_dir) if Path(dataset_dir).is_dir() else Path(dataset_dir).parent
    files = sorted(path for path in root.glob("*") if path.name.lower() in FILES)
    if not files:
        return SECOND, None
    if len(files) > 1:
        names = " and ".join(path.name for path in files)
        raise UserError(f"{root} must hold one palette, got {names}: delete one of them")
    return read_palette(files[0]), files[0]


def read_palette(path: Path) -> Palette:
    """The palette in a YAML file. UserError names the rule, the value and the remedy."""
    try:
        text = read_text(path, FORM)
        return _parse(yaml.safe_load(text), _repeated_keys(yaml.compose(text, yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML ({' '.join(str(error).split())}): {FORM}") from None
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _parse(content: Any, repeated: Sequence[str]) -> Palette:
    """The palette of a parsed YAML file. repeated: keys that occur twice in a mapping."""
    if repeated:
        raise UserError(
            f"the names of the classes must differ, {repeated[0]} occurs twice: rename one of them"
        )
    if not isinstance(content, dict) or not isinstance(content.get("classes"), dict):
        raise UserError(f"a palette must have `classes`, a colour for each name: {FORM}")
    unknown = [key for key in content if key not in ("classes", "void")]
    if unknown:
        raise UserError(f"a palette has `classes` and `void`, got {unknown[0]!r:.60}: remove it")
    colours = [_as_colour(colour) for colour in content["classes"].values()]
    void = content.get("void")
    if void is None:
        void = [colour for colour in (BLACK, WHITE) if colour not in colours]
    if not isinstance(void, list) or not all(isinstance(colour, list | tuple) for colour in void):
        raise UserError(f"`void` must be a list of colours, got {void!r:.60}: write for example [[0, 0, 0]]")
    return Palette(tuple(content["classes"]), tuple(colours), tuple(_as_colour(colour) for colour in void))


def _as_colour(colour: Any) -> Any:
    """A list as a tuple; `Palette` checks it."""
    return tuple(colour) if isinstance(colour, list) else colour


def _repeated_keys(node: yaml.Node | None) -> list[str]:
    """The keys that occur twice in a mapping of a YAML file, of which the parser would drop the first."""
    if isinstance(node, yaml.SequenceNode):
        return [key for item in node.value for key in _repeated_keys(item)]
    if not isinstance(node, yaml.MappingNode):
        return []
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    repeated = [key for key in dict.fromkeys(keys) if keys.count(key) > 1]
    return repeated + [key for _, value in node.value for key in _repeated_keys(value)]
