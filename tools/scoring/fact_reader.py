"""Read a caption as facts: which class appears or disappears, how many, where, and what it replaces.

A caption is split into clauses with one verb each. The nouns before the verb are its subject, those after it
its object; a noun after a preposition ("along the road") is context and states nothing, with two exceptions:
a new thing appears wherever it is named ("beside the new road"), and a surface that something is built on
("on the bareland") disappears.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from tools.scoring.fact_words import FactWords, Token, Verb, read_fact_words

OPPOSITE = {"appears": "disappears", "disappears": "appears"}
IN_A_VERB = ("other", "new", "more", "less", "pronouns", "be", "quantities", "number")
WITHOUT_SUBJECT = ("pronouns", "be", "new", "breaks", "number", "quantities")


@dataclass(frozen=True)
class Fact:
    """A class (of the word lists) that appears or disappears.

    number: how many, if said as a number. place: such as "top left", if said. replaces: the classes whose
    place it takes, if said.
    """

    label: str
    change: str
    number: int | None = None
    place: str | None = None
    replaces: tuple[str, ...] = ()


class Mention(NamedTuple):
    """A noun in a clause. role: named, site, context, replaced or formed."""

    label: str
    role: str
    number: int | None
    new: bool


class Clause(NamedTuple):
    """A verb ("appears", ..., or "replaced": the passive of "replaces") with the tokens around it."""

    verb: str
    before: Sequence[Token]
    after: Sequence[Token]


class FactReader:
    """Reads captions as facts by the word lists of a language."""

    def __init__(self, words: FactWords | None = None) -> None:
        self.words = words or read_fact_words()
        self.facts = lru_cache(maxsize=1 << 16)(self._facts)

    def says_unchanged(self, caption: str) -> bool:
        """Whether a caption says that nothing has changed: it has such words and states no fact."""
        tokens = self.words.read(caption)
        return any(token.kind == "unchanged" for token in tokens) and not self.facts(caption)

    def _facts(self, caption: str) -> tuple[Fact, ...]:
        """The facts of a caption in their order, each (label, change) once."""
        facts: dict[tuple[str, str], Fact] = {}
        subject: list[Mention] = []
        for clause in self._clauses(self.words.read(caption)):
            before = list(_mentions(clause.before, subject=True))
            named = [mention for mention in before if mention.role == "named"]
            if not named and all(token.kind in WITHOUT_SUBJECT for token in clause.before):
                before = subject  # "trees are cut down and replaced by houses"
            subject = before
            for fact in self._of_clause(clause, before):
                facts.setdefault((fact.label, fact.change), fact)
        return tuple(facts.values())

    def _clauses(self, tokens: Sequence[Token]) -> list[Clause]:
        """The clauses of a caption; one without a verb says that its nouns appear."""
        verbs = list(self._verbs(tokens)) or self._participles(tokens)
        if not verbs:
            unchanged = any(token.kind == "unchanged" for token in tokens)
            return [] if unchanged else [Clause("appears", tokens, ())]
        starts = [0]
        for (place, verb), (following, _) in pairwise(verbs):
            starts.append(_start_of_next(tokens, place, following, verb))
        ends = [*starts[1:], len(tokens)]
        return [
            Clause(verb, tokens[start:place], tokens[place + 1 : end])
            for (place, verb), start, end in zip(verbs, starts, ends, strict=True)
        ]

    def _verbs(self, tokens: Sequence[Token]) -> Iterator[tuple[int, str]]:
        """Place and meaning of each finite verb, and of each participle that stands for one."""
        passive_before = found = False
        for place, token in enumerate(tokens):
            if token.kind != "verb":
                continue
            verb = self.words.verbs[token.value]
            continued = passive_before and tokens[place - 1].kind == "breaks"
            replaced = verb.passive == "replaces" and _next(tokens, place).value == "by"  # ", replaced by"
            passive = verb.passive and (continued or replaced or _follows_be(tokens, place))
            reduced = found and not verb.active and self._stands_for_verb(tokens, place)
            if passive or verb.active or reduced:
                passive_before, found = bool(passive or reduced), True
                yield place, _meaning(verb, passive_before)

    def _stands_for_verb(self, tokens: Sequence[Token], place: int) -> bool:
        """Whether a participle without "is" is the verb of its nouns, in a caption with a verb before.

        "... with some trees removed", "trees are removed and some houses scattered beside the road".
        """
        if tokens[place - 1].kind == "noun" and self.words.verbs[tokens[place].value].passive == "disappears":
            return True
        if _next(tokens, place).kind == "noun":
            return False  # "for parked cars"
        start = max((i + 1 for i in range(place) if tokens[i].kind == "breaks"), default=0)
        end = next((i for i in range(place, len(tokens)) if tokens[i].kind == "breaks"), len(tokens))
        others = [self.words.verbs[token.value] for token in tokens[start:end] if token.kind == "verb"]
        has_subject = any(token.kind == "noun" for token in tokens[start:place])
        is_clause = not any(token.kind == "be" for token in tokens[start:end])
        return start > 0 and has_subject and is_clause and not any(verb.active for verb in others)

    def _participles(self, tokens: Sequence[Token]) -> list[tuple[int, str]]:
        """The same for a caption without a finite verb: "houses built along the road"."""
        places = [place for place, token in enumerate(tokens) if token.kind == "verb"]
        return [(place, _meaning(self.words.verbs[tokens[place].value], True)) for place in places]

    def _of_clause(self, clause: Clause, before: Sequence[Mention]) -> Iterator[Fact]:
        """The facts of a clause; before: the nouns of its subject."""
        after = list(_mentions(clause.after, subject=False, passive=clause.verb == "replaced"))
        of_subject, of_object = _directions(clause, after)
        changes = [
            *((mention, self._change(mention, of_subject, of_subject)) for mention in before),
            *((mention, self._change(mention, of_object, of_subject)) for mention in after),
        ]
        if clause.verb == "becomes":  # "the road is rebuilt into a wider road": the road does not disappear
            changes = [
                (mention, change) for mention, change in changes if not _remains(mention, change, after)
            ]
        gone = dict.fromkeys(mention.label for mention, change in changes if change == "disappears")
        place = _place((*clause.before, *clause.after))
        for mention, change in changes:
            if change:
                replaces = tuple(gone) if change == "appears" else ()
                yield Fact(mention.label, change, mention.number, place, replaces)

    def _change(self, mention: Mention, named: str, of_subject: str) -> str | None:
        """What a mention says of its class. named: what the verb says of it; of_subject: of its subject."""
        if mention.role == "named":
            return named
        if mention.role == "replaced":
            return "disappears"
        if mention.role == "formed" or mention.new:
            return "appears"
        surface = mention.role == "site" and self.words.classes[mention.label].surface
        return "disappears" if surface and of_subject == "appears" else None


def _remains(mention: Mention, change: str | None, after: Sequence[Mention]) -> bool:
    """Whether the subject of "becomes" is of the class that it becomes."""
    return change == "disappears" and any(
        other.role == "named" and other.label == mention.label for other in after
    )


def _meaning(verb: Verb, passive: bool) -> str:
    said = verb.passive if passive and verb.passive else verb.active
    return "replaced" if passive and said == "replaces" else said


def _follows_be(tokens: Sequence[Token], place: int) -> bool:
    """Whether a form of "be" stands before the participle at `place`, with only adverbs in between."""
    while place > 0 and tokens[place - 1].kind in IN_A_VERB:
        place -= 1
        if tokens[place].kind == "be":
            return True
    return False


def _next(tokens: Sequence[Token], place: int) -> Token:
    """The token after `place`; of the kind "end" after the last."""
    return tokens[place + 1] if place + 1 < len(tokens) else Token("end", "")


def _start_of_next(tokens: Sequence[Token], place: int, following: int, verb: str) -> int:
    """Where the clause of the verb at `following` starts, after the clause of the verb at `place`.

    A verb with an object keeps what is listed after it up to the last "and", another up to the first.
    """
    breaks = [i for i in range(place + 1, following) if tokens[i].kind in ("breaks", "where")]
    if not breaks:
        return place + 1
    has_object = any(token.kind == "noun" for token in tokens[place : breaks[0]])
    return breaks[-1] if has_object and verb in ("replaces", "replaced", "becomes") else breaks[0]


def _directions(clause: Clause, after: Sequence[Mention]) -> tuple[str, str]:
    """What happens to the subject and to the object of a clause."""
    if clause.verb == "replaces":
        return "appears", "disappears"
    if clause.verb == "replaced" and not any(mention.role == "named" for mention in after):
        return "disappears", "appears"
    if clause.verb == "becomes" and not any(mention.role == "named" for mention in after):
        kinds = {token.kind for token in clause.after}
        grows = not kinds.isdisjoint({"more", "quantities"}) and "less" not in kinds
        return ("appears" if grows else "disappears"), "appears"
    if clause.verb in ("replaced", "becomes"):
        return "disappears", "appears"
    return clause.verb, clause.verb


def _mentions(tokens: Sequence[Token], *, subject: bool, passive: bool = False) -> Iterator[Mention]:
    """The nouns of one side of a verb. passive: of a verb whose object follows "by" or "with"."""
    role, number, new, negated, complete = "context" if passive else "named", None, False, False, False
    for place, token in enumerate(tokens):
        kind = token.kind
        if kind == _next(tokens, place).kind == "noun":
            continue  # "a square house" is a house
        if kind in ("number", "quantities") and complete and role in ("context", "site"):
            role = "named"  # "on the bareland many houses", "beside the road and some trees"
        if kind == "noun":
            if not negated:
                yield Mention(token.value, role, number, new)
            number, new, negated, complete = None, False, False, True
        elif kind in ("context", "sites", "edges", "joining", "replacing", "forming", "where", "breaks"):
            role, number = _next_role(token, role, subject, passive), None
            complete = complete and kind == "breaks"
        elif kind in ("number", "quantities"):
            number = token.value if kind == "number" else None
        new, negated = new or kind == "new", negated or kind == "not"


def _next_role(token: Token, role: str, subject: bool, passive: bool) -> str:
    """The role of the nouns after a token that starts or goes on with a phrase."""
    if passive and token.value in ("by", "with"):
        return "named"
    if token.kind == "breaks":
        return "named" if subject else role
    roles = {
        "context": "context",
        "sites": "site",
        "edges": "named" if role == "named" else "context",
        "joining": "named",
        "replacing": "replaced",
        "forming": "formed",
        "where": "replaced",
    }
    return roles[token.kind]


def _place(tokens: Sequence[Token]) -> str | None:
    """The place in the image that a clause names first: "top left", "middle".

    "On the left side of the road" is not a place in the image.
    """
    words, side = [], False
    for token in tokens:
        if token.kind == "place" and token.value not in words:
            words.append(token.value)
        elif token.kind == "edges":
            side = True
        elif token.kind in ("noun", "breaks"):
            if words and not (side and token.kind == "noun"):
                break
            words, side = [], False
    return " ".join(words) or None
