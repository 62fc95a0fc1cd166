"""Warn about unknown words, and refuse a vocabulary that covers too few words of its own captions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter

from data.data_warning import DataWarning
from data.dataset_facts import unknown_words, word_counts
from data.errors import UserError
from data.sources import SPLITS, Pair
from data.vocabulary import SPECIALS, Vocabulary

MANY_UNKNOWN = 0.10  # warn of a larger share of unknown words
UNUSABLE = 0.20  # refuse a larger share of unknown training words


def check_vocabulary(pairs: Sequence[Pair], vocabulary: Vocabulary, splits: str, min_word_freq: int) -> None:
    """Raise UserError if `vocabulary` lacks more than UNUSABLE of the training words, or has no word.

    splits: the splits whose words were counted, "train" or "all". Without a training split an empty
    vocabulary of "train" is allowed: existing checkpoints have their own words.
    """
    train = word_counts(pairs, "train")
    counted = train if splits == "train" else sum((word_counts(pairs, split) for split in SPLITS), Counter())
    words = train or counted
    if not words:
        return
    unknown = unknown_words(words, vocabulary) / words.total()
    if unknown <= UNUSABLE:
        return
    raise UserError(
        f"at most {UNUSABLE:.0%} of the training words may be unknown, --min_word_freq {min_word_freq} "
        f"leaves {unknown:.1%}: {_better_frequency(words, counted)}"
    )


def _better_frequency(words: Counter[str], counted: Counter[str]) -> str:
    """The largest --min_word_freq that leaves at most MANY_UNKNOWN of `words` unknown, as a remedy.

    counted: the words of the splits that the vocabulary is built from.
    """
    unknown = sum(words[special] for special in SPECIALS)
    for word, count in sorted(counted.items(), key=itemgetter(1)):
        if word in SPECIALS:
            continue
        if unknown + words[word] > MANY_UNKNOWN * words.total():
            kept = {known for known, times in counted.items() if times >= count and known not in SPECIALS}
            left = (words.total() - sum(words[known] for known in kept)) / words.total()
            if left <= MANY_UNKNOWN:
                return f"give --min_word_freq {count - 1}, which leaves {left:.1%}"
            break
        unknown += words[word]
    return f"the captions hold special tokens, such as {SPECIALS[1]}: write the words themselves"


def warn_of_words(
    pairs: Sequence[Pair], vocabulary: Vocabulary, splits: str, given: str | None
) -> Iterator[DataWarning]:
    """Warn of many unknown words, the most common ones as examples.

    splits: as in `check_vocabulary`. given: the file that `vocabulary` was read from, if any.
    """
    words = {split: word_counts(pairs, split) for split in SPLITS}
    shares, unknown = {}, Counter()
    for split, counts in words.items():
        share = unknown_words(counts, vocabulary) / max(counts.total(), 1)
        if share > MANY_UNKNOWN:
            shares[split] = f"{split} {share:.1%}"
            unknown += Counter({word: count for word, count in counts.items() if word not in vocabulary})
    if not shares:
        return
    if given:
        remedy = "leave out --vocabulary and train with train.start_from, which keeps the common words"
    elif "train" in shares:
        counted = words["train"] if splits == "train" else sum(words.values(), Counter())
        remedy = _better_frequency(words["train"], counted)
    elif not words["train"]:
        remedy = "give --vocabulary CHECKPOINT to encode the captions with the words of a trained model"
    else:
        remedy = (
            f"no caption of the model can have them: add training captions like those of {next(iter(shares))}"
        )
    examples = [f"{word} {count}" for word, count in unknown.most_common()]
    yield DataWarning(f"unknown words: {', '.join(shares.values())}", remedy, examples)
