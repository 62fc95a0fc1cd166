"""The mapping between words and token ids, including the special tokens."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.atomic_write import write_text
from data.errors import UserError
from data.json_file import read_json

PAD, UNK, START, END = SPECIALS = ("<pad>", "<unk>", "<start>", "<end>")


class Vocabulary:
    """An ordered list of words; `words[id]` is the word with that id.

    The order is that of the authors' word maps: `<pad>` is 0, then the words in order of first appearance,
    then `<unk>`, `<start>`, `<end>`.
    """

    def __init__(self, words: Iterable[str]):
        """`words` in the order of their ids. UserError on a repeated word or a missing special token."""
        self.words = tuple(words)
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) < len(self.words):
            repeated = [word for word, count in Counter(self.words).items() if count > 1]
            raise UserError(f"a vocabulary holds each word once, got more than once: {repeated[:5]}")
        missing = [special for special in SPECIALS if special not in self._ids]
        if missing:
            raise UserError(f"a vocabulary holds the special tokens {SPECIALS}, missing: {missing}")
        self.pad, self.unk, self.start, self.end = (self._ids[special] for special in SPECIALS)

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], min_word_freq: int) -> "Vocabulary":
        """The words seen MORE than `min_word_freq` times in `captions`, each a sequence of words."""
        counts = Counter(word for caption in captions for word in caption)
        frequent = [word for word, n in counts.items() if n > min_word_freq and word not in SPECIALS]
        return cls([PAD, *frequent, UNK, START, END])

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        """Whether `word` is a known word; words spelt like a special token are unknown."""
        return word in self._ids and word not in SPECIALS

    def encode(self, words: Sequence[str], max_length: int) -> list[int]:
        """`<start>` words `<end>`, padded with `<pad>` to `max_length` + 2 ids. UserError on more words."""
        if len(words) > max_length:
            raise UserError(
                f"a caption has at most {max_length} words, got {len(words)}: raise the maximum length"
            )
        ids = [self._ids[word] if word in self else self.unk for word in words]
        return [self.start, *ids, self.end] + [self.pad] * (max_length - len(words))

    def decode(self, ids: Iterable[int]) -> str:
        """The words joined by spaces; drops `<start>`, `<end>` and `<pad>`, keeps `<unk>`."""
        dropped = {self.pad, self.start, self.end}
        return " ".join(self.words[int(index)] for index in ids if int(index) not in dropped)

    def to_word_map(self) -> dict[str, int]:
        """The authors' format, word -> id."""
        return dict(self._ids)

    @classmethod
    def from_word_map(cls, word_map: dict[str, int]) -> "Vocabulary":
        """Inverse of `to_word_map`. UserError unless the ids are 0 to V - 1, each once."""
        words = sorted(word_map, key=word_map.__getitem__)
        if [word_map[word] for word in words] != list(range(len(words))):
            raise UserError(f"the ids of a word map are 0 to {len(words) - 1}, each once; these are not")
        return cls(words)

    def save(self, path: Path) -> None:
        """Write the list of words as JSON, one word per line."""
        write_text(path, json.dumps(self.words, ensure_ascii=False, indent=0) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Inverse of `save`. FileNotFoundError if the file is missing, UserError if it is not a word list."""
        words = read_json(path, "run tools/create_input_files.py")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f"{path} must hold a list of words: run tools/create_input_files.py again")
        return cls(words)
