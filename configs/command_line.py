"""Command lines: options and dotted settings, which override a YAML file or a checkpoint's settings."""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from configs import DEFAULT_MODEL, SECTIONS, Config, known_settings, section_class
from data.errors import UserError

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # they are the settings' help texts
Stored = Mapping[str, Mapping[str, Any]]  # the settings of a checkpoint or a run folder, by section


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the description, which holds examples."""


class CommandLine(ArgumentParser):
    """A command's options plus the settings of `sections` (default: all), such as `--train.epochs 2`."""

    def __init__(self, description: str | None, *sections: str) -> None:
        super().__init__(
            description=description, formatter_class=HelpFormatter, exit_on_error=False, allow_abbrev=False
        )
        self.sections = sections or SECTIONS
        self.model: str | None = None  # whose settings were added

    def read(self, argv: Sequence[str] | None, stored: Stored | None = None) -> tuple[Config, Namespace]:
        """Settings and options from `argv`. stored: settings that replace the defaults.

        UserError, in one line, on an unknown name, a wrong type or a value out of range.
        """
        stored = stored or {}
        with self._one_line_errors():
            given, options = self._parse(argv, stored)
            config = Config(**{**sections_of(stored), **given})
            return Config.from_dict(config.to_dict()), options  # plain numbers, not jsonargparse's

    def read_section(self, argv: Sequence[str] | None, stored: Stored) -> tuple[Any, Namespace]:
        """As `read` for a command with a single section: its dataclass alone."""
        with self._one_line_errors():
            given, options = self._parse(argv, stored)
            return given[self.sections[0]], options

    def _parse(self, argv: Sequence[str] | None, stored: Stored) -> tuple[dict[str, Any], Namespace]:
        self._add_settings(argv, stored)
        for name in self.sections:
            kind = section_class(name, {"name": self.model})
            for key, value in known_settings(kind, stored.get(name, {})).items():
                self.set_defaults({f"{name}.{key}": value})
        options = self.parse_args(argv)
        given = self.instantiate(options)
        return {name: getattr(given, name) for name in self.sections}, options

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except (ArgumentError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise UserError(
                f"configuration: {error}{self._suggestion(str(error))} "
                "(configs/second_cc.yaml explains every setting)"
            ) from None

    def _add_settings(self, argv: Sequence[str] | None, stored: Stored) -> None:
        """Add each section's settings; those of `model` are the chosen model's."""
        if self.model:
            return
        self.model = chosen_model(argv, stored) if "model" in self.sections else DEFAULT_MODEL
        for name in self.sections:
            self.add_class_arguments(section_class(name, {"name": self.model}), name)

    def _suggestion(self, error: str) -> str:
        """The known name closest to the unknown one in jsonargparse's message, "" if there is none."""
        unknown = re.search(
            r"unrecognized arguments: --([\w.]+)|Group '(\w+)' does not accept option '(\w+)'"
            r"|Option '([\w.]+)' is not accepted",
            error,
        )
        name = ".".join(filter(None, unknown.groups())) if unknown else ""
        section, _, last = name.rpartition(".")
        known = sorted(self.get_defaults().keys(), key=lambda key: key.startswith(f"{section}."))
        named = {key.rpartition(".")[2]: key for key in known}  # of two alike, that of the section named
        return "".join(f", did you mean {named[near]}?" for near in get_close_matches(last, named, n=1))


def chosen_model(argv: Sequence[str] | None, stored: Stored) -> str:
    """The model whose settings apply: that of --model.name, else of --config, else of `stored`."""
    if name := early_option(argv, "--model.name"):
        return name
    path = early_option(argv, "--config")
    if path and Path(path).is_file():
        section = read_yaml(path).get("model")
        if isinstance(section, dict) and isinstance(section.get("name"), str):
            return section["name"]
    return stored.get("model", {}).get("name", DEFAULT_MODEL)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The content of a configuration file, {} if it is not a mapping of sections."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML ({reason}): compare it with configs/second_cc.yaml") from None
    return content if isinstance(content, dict) else {}


def early_option(argv: Sequence[str] | None, name: str) -> str | None:
    """The value of one option, parsed before the others, whose defaults depend on it."""
    return take_option(argv, name)[0]


def take_option(argv: Sequence[str] | None, name: str) -> tuple[str | None, list[str]]:
    """The value of one option, None without it, and the other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, dest="value")
    options, others = parser.parse_known_args(argv)
    return options.value, others


def sections_of(stored: Stored) -> dict[str, Any]:
    """The dataclass of each stored section."""
    if not stored:
        return {}
    config = Config.from_dict(stored)
    return {name: getattr(config, name) for name in stored}


def read_stored(stored: Mapping[str, Any]) -> Config:
    """The configuration stored in a checkpoint; settings missing in an older one have their defaults.

    UserError names the section or setting that is missing, unknown or out of range.
    """
    for name in SECTIONS:
        if not isinstance(stored.get(name), dict):
            raise UserError(f"its settings have no section {name}")
        kind = section_class(name, stored[name])
        known = {setting.name for setting in fields(kind)}
        if unknown := [key for key in known_settings(kind, stored[name]) if key not in known]:
            raise UserError(f"a newer version wrote it, with the unknown setting {name}.{unknown[0]}")
    if unknown := [name for name in stored if name not in SECTIONS]:
        raise UserError(f"a newer version wrote it, with the unknown section {unknown[0]}")
    try:
        parser = CommandLine(None)
        parser._add_settings([], stored)
        plain = {name: known_settings(section_class(name, stored[name]), stored[name]) for name in SECTIONS}
        given = parser.instantiate(parser.parse_object(plain))
        return Config(**{name: getattr(given, name) for name in SECTIONS})
    except (ArgumentError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"its settings are not valid ({error})") from None


def load(path: str | Path) -> Config:
    """The configuration of one YAML file."""
    parser = CommandLine(None)
    parser.add_argument("--config", action="config")
    return parser.read(["--config", str(path)])[0]
