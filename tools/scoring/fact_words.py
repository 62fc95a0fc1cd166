"""The word lists of a language (configs/facts/*.yaml), by which captions are read as facts."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import yaml

from data.errors import UserError
from data.json_file import read_text
from data.palette import SECOND

ENGLISH = Path(__file__).resolve().parents[2] / "configs" / "facts" / "english.yaml"
VERBS = ("appears", "disappears", "replaces", "becomes")
LISTS = (  # the lists of function words; the name is the kind of their tokens
    *("more", "less", "replacing", "forming", "where", "joining", "breaks", "context", "sites", "edges"),
    *("be", "new", "not", "unchanged", "pronouns", "ignored", "quantities"),
)
KEYS = {"classes", "verbs", "numbers", "places", *LISTS}
REMEDY = "give a file of the form of configs/facts/english.yaml"


WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[,.;]")


class Token(NamedTuple):
    """A phrase of a caption: its kind ("noun", "verb", "number", "place", a name of LISTS, or "other").

    value: the class of a noun, the key of a place, the number, else the phrase itself.
    """

    kind: str
    value: str | int


class Verb(NamedTuple):
    """What a form of a verb says, one of VERBS or None, as an active and as a passive form."""

    active: str | None
    passive: str | None


@dataclass(frozen=True)
class FactClass:
    """A class that captions name. See configs/facts/english.yaml."""

    words: tuple[str, ...]
    map_classes: tuple[str, ...] = ()
    surface: bool = False
    includes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FactWords:
    """The classes, and the tokens and verbs of phrases (tuples of words)."""

    classes: Mapping[str, FactClass]
    tokens: Mapping[tuple[str, ...], Token]
    verbs: Mapping[str, Verb]

    @cached_property
    def longest(self) -> int:
        """The number of words of the longest phrase."""
        return max(map(len, self.tokens))

    @cached_property
    def agreeing(self) -> dict[str, frozenset[str]]:
        """Class -> the classes that it agrees with: itself, those that it includes, those that include it."""
        agreeing = {name: {name, *described.includes} for name, described in self.classes.items()}
        for general, described in self.classes.items():
            for name in described.includes:
                agreeing[name].add(general)
        return {name: frozenset(classes) for name, classes in agreeing.items()}

    def read(self, caption: str) -> list[Token]:
        """The tokens of a caption."""
        return [token for _, token in self.phrases(caption)]

    def phrases(self, caption: str) -> list[tuple[str, Token]]:
        """The phrases of a caption with their tokens; of several that match, the longest is taken."""
        words = WORD.findall(caption.lower())
        found, start = [], 0
        while start < len(words):
            for length in range(self.longest, 0, -1):
                phrase = tuple(words[start : start + length])
                if token := self.tokens.get(phrase):
                    break
            unknown = Token("number", int(phrase[0])) if phrase[0].isdecimal() else Token("other", phrase[0])
            found.append((" ".join(phrase), token or unknown))
            start += len(phrase)
        return found


def read_fact_words(path: str | Path = ENGLISH) -> FactWords:
    """The word lists in a YAML file. UserError for a file of another form."""
    try:
        content = yaml.safe_load(read_text(path, REMEDY))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML ({' '.join(str(error).split())}): {REMEDY}") from None
    if not isinstance(content, dict) or content.keys() != KEYS:
        given = set(content) if isinstance(content, dict) else set()
        raise UserError(
            f"{path} must have the keys {', '.join(sorted(KEYS))}; missing: {_listed(KEYS - given)}, "
            f"unknown: {_listed(given - KEYS)}: {REMEDY}"
        )
    try:
        classes = {name: _fact_class(**fields) for name, fields in content["classes"].items()}
        tokens = {tuple(_split(phrase)): token for phrase, token in _function_words(content)}
        verbs = dict(_verb_forms(content["verbs"]))
    except (TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{path} has an entry of the wrong form ({error}): {REMEDY}") from None
    tokens |= {tuple(phrase.split()): Token("verb", phrase) for phrase in verbs}
    for name, described in classes.items():
        tokens |= {words: Token("noun", name) for words in _noun_forms(described.words)}
    _check_classes(path, classes)
    return FactWords(classes, tokens, verbs)


def _listed(names: set) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


def _split(phrase: str) -> list[str]:
    return phrase.lower().replace("-", " ").split()


def _phrases(value: object) -> tuple[str, ...]:
    """The phrases of a list; TypeError if it is not a list of texts: YAML reads `on` as true."""
    if not isinstance(value, list) or not all(isinstance(phrase, str) for phrase in value):
        raise TypeError(f"{value!r} must be a list of texts, put those in quotes that YAML takes for others")
    return tuple(value)


def _fact_class(
    words: object, map_classes: object = (), surface: bool = False, includes: object = ()
) -> FactClass:
    return FactClass(_phrases(words), _phrases(list(map_classes)), surface, _phrases(list(includes)))


def _function_words(content: Mapping) -> Iterator[tuple[str, Token]]:
    """The phrases that are neither nouns nor verbs; a later one replaces an equal earlier one."""
    for kind in LISTS:
        for phrase in _phrases(content[kind]):
            yield phrase, Token(kind, phrase)
    for phrase, number in content["numbers"].items():
        yield phrase, Token("number", number)
    for place, phrases in content["places"].items():
        for phrase in _phrases(phrases):
            yield phrase, Token("place", place)


def _verb_forms(verbs: Mapping[str, Mapping[str, list[str]]]) -> Iterator[tuple[str, Verb]]:
    """Each form with what it says."""
    active = {form: name for name in VERBS for form in _phrases(verbs[name]["active"])}
    passive = {form: name for name in VERBS for form in _phrases(verbs[name]["passive"])}
    for form in active | passive:
        yield " ".join(_split(form)), Verb(active.get(form), passive.get(form))


def _noun_forms(phrases: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of each phrase, in the singular and the plural."""
    for phrase in phrases:
        *words, last = _split(phrase)
        yield (*words, last)
        if last.endswith("y") and last[-2:-1] not in "aeiou":
            yield (*words, f"{last[:-1]}ies")
        else:
            yield (*words, f"{last}es" if last.endswith(("s", "x", "ch", "sh")) else f"{last}s")


def _check_classes(path: str | Path, classes: Mapping[str, FactClass]) -> None:
    known = set(SECOND.names)
    for name, described in classes.items():
        if unknown := set(described.map_classes) - known:
            raise UserError(
                f"{path}: map_classes of {name} must be among {_listed(known)}, got {_listed(unknown)}"
            )
        if unknown := set(described.includes) - classes.keys():
            raise UserError(f"{path}: {name} includes {_listed(unknown)}, which must be a class of the file")
