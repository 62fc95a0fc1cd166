"""Controlled errors in captions: each makes one thing in a person's caption wrong.

The errors work on words, by tables of this file; which words are nouns of a class and which are verbs comes
from the word lists in configs/facts/. An error that a caption has no words for is not made.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tools.scoring.fact_words import FactWords

BE, HAVE = r"(?:is|are|was|were)", r"(?:has|have|had)"
BUILT = (
    "built|constructed|erected|added|developed|established|completed|planted|rebuilt|located|reconstructed"
)
REMOVED = "removed|demolished|destroyed|cut down|cut|cleared|torn down|pulled down"
INTO = "(?:turned|developed|converted|changed|transformed) (?:into|to|for|as)|(?:built|rebuilt) into"
# What a caption becomes when the direction of its change is reversed; the first pattern that matches at a
# place counts.
REVERSALS = (
    (rf"{BE} (?:being )?(?:replaced|covered) (?:by|with)", "replace"),
    (rf"({HAVE}) been (?:replaced|covered) (?:by|with)", r"\1 replaced"),
    (rf"{BE} (?:{INTO})", "replace"),
    (rf"({HAVE}) been (?:{INTO})", r"\1 replaced"),
    (rf"({HAVE}) (?:become|turned into)", r"\1 replaced"),
    ("turned into|became", "replaced"),
    ("turn into|become", "replace"),
    ("turns into|becomes", "replaces"),
    (rf"({HAVE}) (?:replaced|taken the place of)", r"\1 given way to"),
    ("to replace|in (?:the )?place of|in replace of|instead of", "to make way for"),
    ("replacing|taking (?:the )?place of", "making way for"),
    ("replace|take (?:the )?place of", "give way to"),
    ("replaces|takes (?:the )?place of", "gives way to"),
    ("appear|show up|emerge", "disappear"),
    ("appears|shows up|emerges", "disappears"),
    ("appeared|showed up|emerged", "disappeared"),
    ("disappear|vanish", "appear"),
    ("disappears|vanishes", "appears"),
    ("disappeared|vanished", "appeared"),
    (rf"((?:{BE}|been)(?: \w+ly)?) (?:{BUILT})", r"\1 removed"),
    (rf"((?:{BE}|been)(?: \w+ly)?) (?:{REMOVED})", r"\1 built"),
)
_REVERSAL = re.compile("|".join(rf"(?P<p{i}>\b(?:{pattern})\b)" for i, (pattern, _) in enumerate(REVERSALS)))
OPPOSITE_PLACES = {"top": "bottom", "upper": "lower", "left": "right", "above": "below"}
OPPOSITE_PLACES |= {other: place for place, other in OPPOSITE_PLACES.items()}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Captioned:
    """A pair's caption by a person and the other captions of the pair, its references."""

    caption: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class ErrorMaker:
    """Makes one error of each kind in the captions of a data set.

    pairs: the captions. words: the word lists of their language. no_change: sentences of the data set that
    say "no change". The result for a pair depends on `seed` and its place alone.
    """

    pairs: Sequence[Captioned]
    words: FactWords
    no_change: Sequence[str]
    seed: int = 0

    @cached_property
    def nouns(self) -> dict[str, list[str]]:
        """Class -> its nouns as the captions use them."""
        nouns: dict[str, list[str]] = {}
        for pair in self.pairs:
            for label, phrase in self._nouns_of(pair.caption):
                nouns.setdefault(label, []).append(phrase)
        return nouns

    def captions(self, kind: str) -> list[str | None]:
        """The caption of each pair with an error of a kind (a key of ERRORS), None where none can be made."""
        made = []
        for place in range(len(self.pairs)):
            wrong = ERRORS[kind](self, place, random.Random(f"{self.seed} {kind} {place}"))
            made.append(wrong if wrong != self.pairs[place].caption else None)
        return made

    def direction_reversed(self, place: int, draw: random.Random) -> str | None:
        """Every change the other way round: "houses are built" -> "houses are removed"."""

        def reverse(match: re.Match) -> str:
            pattern, reversed_ = REVERSALS[int(match.lastgroup.removeprefix("p"))]
            return re.fullmatch(pattern, match[0]).expand(reversed_)

        return _REVERSAL.sub(reverse, self.pairs[place].caption)

    def class_exchanged(self, place: int, draw: random.Random) -> str | None:
        """The first noun of a class replaced by one of a class that no person names."""
        caption = self.pairs[place].caption
        named = self._nouns_of(caption)
        if not named:
            return None
        old = named[0][1]
        new = self._foreign_noun(place, draw, plural=old.endswith("s"))
        return new and re.sub(rf"\b{re.escape(old)}\b", new, caption, count=1)

    def place_exchanged(self, place: int, draw: random.Random) -> str | None:
        """The opposite place: "in the top left corner" -> "in the bottom right corner"."""
        pattern = rf"\b({'|'.join(OPPOSITE_PLACES)})\b"
        return re.sub(pattern, lambda match: OPPOSITE_PLACES[match[0]], self.pairs[place].caption)

    def wrong_number(self, place: int, draw: random.Random) -> str | None:
        """The first number from two to ten replaced by another of these."""
        words = self.pairs[place].caption.split()
        for position, word in enumerate(words):
            if word in NUMBERS[1:]:
                words[position] = draw.choice([number for number in NUMBERS[1:] if number != word])
                break
        return " ".join(words)

    def omission(self, place: int, draw: random.Random) -> str | None:
        """What stands before or after an "and" left out, so that a sentence with a verb remains."""
        parts = re.split(r"\band\b", self.pairs[place].caption)
        if len(parts) == 1:
            return None
        cut = draw.randrange(1, len(parts))
        sides = [" ".join("and".join(side).split()) for side in (parts[:cut], parts[cut:])]
        with_verb = [side for side in sides if self._has_verb(side)]
        return draw.choice(with_verb) if with_verb else None

    def _has_verb(self, text: str) -> bool:
        return any(token.kind == "verb" for token in self.words.read(text))

    def invention(self, place: int, draw: random.Random) -> str | None:
        """Something added of a class that no person names."""
        noun = self._foreign_noun(place, draw, plural=draw.random() < 0.5)
        added = f"some {noun} appear" if noun and noun.endswith("s") else f"a {noun} appears"
        return noun and f"{self.pairs[place].caption} and {added}"

    def no_change_said(self, place: int, draw: random.Random) -> str | None:
        """A sentence that says that nothing has changed."""
        return draw.choice(self.no_change)

    def other_pair(self, place: int, draw: random.Random) -> str | None:
        """The caption of another pair, which no person gave to this pair."""
        pair = self.pairs[place]
        other = self.pairs[draw.randrange(len(self.pairs))].caption
        return None if other in (pair.caption, *pair.references) else other

    def words_shuffled(self, place: int, draw: random.Random) -> str | None:
        """The words in another order."""
        words = self.pairs[place].caption.split()
        draw.shuffle(words)
        return " ".join(words)

    def _nouns_of(self, caption: str) -> list[tuple[str, str]]:
        """Class and words of each noun in a caption that is in the word lists."""
        return [
            (str(token.value), phrase)
            for phrase, token in self.words.phrases(caption)
            if token.kind == "noun"
        ]

    def _foreign_noun(self, place: int, draw: random.Random, plural: bool) -> str | None:
        """A noun of a class that agrees with none that the captions of the pair name.

        Classes are equally likely, nouns as likely as they are frequent.
        """
        pair = self.pairs[place]
        named = {label for text in (pair.caption, *pair.references) for label, _ in self._nouns_of(text)}
        named = {agreeing for label in named for agreeing in self.words.agreeing[label]}
        choices = []
        for label, nouns in sorted(self.nouns.items()):
            fitting = [noun for noun in nouns if noun.endswith("s") == plural]
            if label not in named and fitting:
                choices.append(fitting)
        return draw.choice(draw.choice(choices)) if choices else None


ERRORS: dict[str, Callable[[ErrorMaker, int, random.Random], str | None]] = {
    "direction reversed": ErrorMaker.direction_reversed,
    "class exchanged": ErrorMaker.class_exchanged,
    "place exchanged": ErrorMaker.place_exchanged,
    "wrong number": ErrorMaker.wrong_number,
    "omission": ErrorMaker.omission,
    "invention": ErrorMaker.invention,
    '"no change"': ErrorMaker.no_change_said,
    "other pair's caption": ErrorMaker.other_pair,
    "words shuffled": ErrorMaker.words_shuffled,
}
