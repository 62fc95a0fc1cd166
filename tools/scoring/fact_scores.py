"""The fact scores of an evaluation: which can be measured on a data set, and the facts of each caption."""

from collections.abc import Sequence
from functools import lru_cache

from data.settings import ENGLISH_FACTS, NO_FACTS
from tools.scoring.fact_reader import Fact, FactReader
from tools.scoring.fact_words import ENGLISH, WORD, FactWords, read_fact_words
from tools.scoring.facts import Facts
from tools.scoring.metric import Metric, Segment
from tools.scoring.own_pair import OwnPair
from tools.scoring.results import CaptionEntry, FactEntry

LEAST_COVERAGE = 0.5  # share of the captions of changed pairs in which a fact is read; above 0.99 in English


@lru_cache
def facts_of_setting(setting: str) -> Facts | None:
    """The metric of the word lists that `data.facts` names; None for "none".

    Raises FileNotFoundError, or UserError for a file of another form.
    """
    if setting == NO_FACTS:
        return None
    return Facts(FactReader(read_fact_words(ENGLISH if setting == ENGLISH_FACTS else setting)))


def measurable_facts(setting: str, references: Sequence[Sequence[str]]) -> tuple[Facts | None, str]:
    """The metric of facts if it suits the captions, and otherwise the reason why not.

    references: the captions of each changed pair.
    """
    facts = facts_of_setting(setting)
    if facts is None:
        return None, f"no fact scores: data.facts is {NO_FACTS}"
    if not references:
        return None, "no fact scores: there are no changed pairs"
    captions = [caption for texts in references for caption in texts]
    coverage = facts.coverage(captions)
    if coverage < LEAST_COVERAGE:
        return None, (
            f"no fact scores: the word lists of data.facts ({setting}) read a fact in only "
            f"{100 * coverage:.0f} % of the captions of changed pairs, give a file for the words of this data"
        )
    return facts, ""


def fact_metrics(facts: Facts | None) -> list[Metric]:
    """The metrics that look at facts; `facts` if it suits the captions, and the own-pair rank."""
    return [*([facts] if facts else []), OwnPair()]


def add_facts(entries: Sequence[CaptionEntry], setting: str) -> None:
    """Add to each entry of captions.json its facts, if they are read, and the percentile of its own pair.

    Changed pairs are ranked among the changed pairs; the others have no percentile. setting: `data.facts`.
    """
    facts, _ = measurable_facts(setting, [entry["references"] for entry in entries if entry["changed"]])
    segments: list[Segment] = [(entry["caption"], tuple(entry["references"])) for entry in entries]
    if facts:
        for entry, segment in zip(entries, segments, strict=True):
            checked = facts.check(segment)
            classes = classes_of_words(entry["caption"], facts.reader.words)
            entry["facts"] = [_entry(fact, right, classes) for fact, right in checked.right.items()]
            entry["contradicts"] = checked.contradicts
    changed = [index for index, entry in enumerate(entries) if entry["changed"]]
    if len(changed) > 1:
        rows = OwnPair().rows([segments[index] for index in changed])
        for index, row in zip(changed, rows, strict=True):
            entries[index]["own_pair"] = 100 * float(row[0])


def _entry(fact: Fact, right: bool, classes: Sequence[str | None]) -> FactEntry:
    """An entry of "facts"; classes: the class that each word of the caption names."""
    return {
        "label": fact.label,
        "change": fact.change,
        "number": fact.number,
        "place": fact.place,
        "right": right,
        "words": [index for index, label in enumerate(classes) if label == fact.label],
    }


def classes_of_words(caption: str, words: FactWords) -> list[str | None]:
    """For each word of a caption, split at blanks, the class that it names, or None."""
    classes = []
    for phrase, token in words.phrases(caption):
        label = token.value if token.kind == "noun" else None
        classes += [label] * len(phrase.split())
    remaining = iter(classes)
    of_words = []
    for word in caption.split():
        labels = [next(remaining) for _ in WORD.findall(word.lower())]  # a hyphen separates two
        of_words.append(next(filter(None, labels), None))
    return of_words
