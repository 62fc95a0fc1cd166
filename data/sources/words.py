"""The words of sentences, and the sentences that mean "nothing has changed" in SECOND-CC and LEVIR-CC.

A word is a run of letters and digits; an apostrophe or a hyphen between two of them belongs to the word
(`road's`, `t-shaped`). All other punctuation separates words. Words are lower-case.
"""

import re
import unicodedata
from collections.abc import Sequence
from reprlib import repr as shortened

from data.errors import UserError

NO_CHANGE_SENTENCES = (
    "the scene is the same as before",
    "there is no difference",
    "the two scenes seem identical",
    "no change is occurred",
    "almost nothing is changed",
    "no change has occurred",
    "almost nothing has changed",
)
SECOND_CC_NO_CHANGE = NO_CHANGE_SENTENCES[:5]  # the others are LEVIR-CC's spellings of two of them

UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and surrogates, which UTF-8 cannot encode
MOST_SENTENCES = 1000  # bounds the table of references of a split, pairs x most sentences

IN_WORDS = "'-"  # punctuation that belongs to a word if it stands between letters or digits
IN_TOKENS = IN_WORDS + "\\"  # LEVIR-CC has the token `a\almost`
SAME = str.maketrans("\u2018\u2019\u02bc\u2010\u2011\u200b", "'''-- ")  # typographic forms, zero-width space

CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# with Thai and Lao, Burmese, Khmer, Japanese syllables
WITHOUT_BLANKS = f"{CHINESE}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff"
SEVERAL_WORDS = re.compile(f"[{CHINESE}]{{6}}|[{WITHOUT_BLANKS}]{{13}}")  # longer than words of these scripts


def split_into_words(sentence: str, in_words: str = IN_WORDS) -> tuple[str, ...]:
    """The lower-case words of a sentence. in_words: the punctuation that may stand inside a word."""
    text = unicodedata.normalize("NFC", sentence.translate(SAME).lower())
    spaced = "".join(_letter_or_blank(character, in_words) for character in text)
    inside = re.escape(in_words)
    return tuple(re.findall(rf"[^\s{inside}]+(?:[{inside}][^\s{inside}]+)*", spaced))


def _letter_or_blank(character: str, in_words: str) -> str:
    """The character itself if it can be part of a word, nothing if it is invisible, else a blank."""
    category = unicodedata.category(character)
    if category[0] in "LMN" or character in in_words:
        return character
    return "" if category == "Cf" else " "


def changed_as_authors(captions: Sequence[str]) -> bool:
    """The authors' rule: a pair is changed if its second stored caption is none of five sentences."""
    return captions[:2][-1] not in SECOND_CC_NO_CHANGE


def mostly_no_change(captions: Sequence[str], no_change: Sequence[str]) -> bool:
    """Whether more than half of a pair's captions are no-change sentences."""
    return sum(caption in no_change for caption in captions) > len(captions) / 2


def captions_of(sentences: object) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...], int]:
    """Raw text and words of the sentences that have words, and the number of sentences without words.

    sentences: a list of objects with `raw` (text), `tokens` (list of words) or both; None is an empty list.
    """
    sentences = [] if sentences is None else sentences
    if not isinstance(sentences, list):
        raise UserError(f"`sentences` must be a list, got {shortened(sentences)}")
    if len(sentences) > MOST_SENTENCES:
        raise UserError(f"a pair has at most {MOST_SENTENCES} sentences, got {len(sentences)}")
    parsed = [_sentence(sentence) for sentence in sentences]
    captions = [(raw, words) for raw, words in parsed if words]
    raw_texts, word_lists = tuple(raw for raw, _ in captions), tuple(words for _, words in captions)
    return raw_texts, word_lists, len(parsed) - len(captions)


def _sentence(sentence: object) -> tuple[str, tuple[str, ...]]:
    """Raw text and words of one sentence; the words come from `tokens` if it has them, else from `raw`."""
    if not isinstance(sentence, dict):
        raise UserError(
            f"a sentence must be an object with `tokens` or `raw`, got {shortened(sentence)}: write "
            '{"raw": "a house appears"}'
        )
    raw, tokens = sentence.get("raw"), sentence.get("tokens")
    if raw is not None and not isinstance(raw, str):
        raise UserError(f"`raw` must be text, got {shortened(raw)}")
    check_text(raw or "", "raw")
    if not tokens:
        if raw is None:
            raise UserError("a sentence needs `tokens` or `raw`")
        _check_blanks(raw)
        return raw, split_into_words(raw)
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UserError(f"`tokens` must be a list of words, got {shortened(tokens)}")
    check_text(" ".join(tokens), "tokens")
    words = split_into_words(" ".join(tokens), IN_TOKENS)
    return raw if raw is not None else " ".join(words), words


def _check_blanks(raw: str) -> None:
    """Raise UserError if a sentence in a script without blanks is not separated into words."""
    no_blank = re.search(f"[{WITHOUT_BLANKS}]", raw) and len(raw.split()) == 1
    if no_blank or SEVERAL_WORDS.search(raw):
        raise UserError(
            f"the words of a sentence must be separated by blanks, got {shortened(raw)}: give its `tokens`, "
            "a list of words (docs/data.md shows the form), or put blanks between its words"
        )


def check_text(text: str, key: str) -> None:
    """Raise UserError if `text` has a character that file names and HDF5 files cannot hold."""
    if match := UNSTORABLE.search(text):
        raise UserError(f"`{key}` must be plain text, got the character {match[0]!a}: remove it")
