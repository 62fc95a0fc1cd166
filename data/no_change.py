"""The sentences that say "nothing has changed": found in a data set's own captions, not taken from a list."""

from collections import Counter
from collections.abc import Mapping, Sequence

from data.sources import NO_CHANGE_SENTENCES, Pair

NOISE = 0.05  # share of mistakes: "almost never" on changed pairs, and unchanged pairs with another caption
MAJORITY = 3  # a sentence must describe this many times as many unchanged pairs as changed ones


def count_no_change(pairs: Sequence[Pair]) -> dict[str, int]:
    """The no-change sentences of a data set, each with the number of unchanged pairs that it describes.

    A sentence counts if it describes at least two unchanged pairs and almost no changed one
    (`_rare_on_changed`). A sentence of a single unchanged pair may as well describe the scene: it counts only
    where the repeated ones leave more than NOISE of the unchanged pairs without a sentence, for those pairs.

    Only pairs whose JSON entry has a `changeflag` are used: those of the training split, or of all splits if
    no training pair is unchanged. Augmented copies repeat their original and are not counted.
    """
    flagged = [pair for pair in pairs if pair.flagged]
    train = [pair for pair in flagged if pair.split == "train"]
    flagged = train if any(not pair.changed for pair in train) else flagged
    flagged = [pair for pair in flagged if not pair.augmented] or flagged
    unchanged = [sentences_of(pair) for pair in flagged if not pair.changed]
    changed = [sentences_of(pair) for pair in flagged if pair.changed]
    on_unchanged = Counter(sentence for own in unchanged for sentence in own)
    on_changed = Counter(sentence for own in changed for sentence in own)

    found = {
        sentence: count
        for sentence, count in on_unchanged.most_common()
        if count > 1 and _rare_on_changed(count, on_changed[sentence], len(unchanged), len(changed))
    }
    without = [own for own in unchanged if not any(sentence in found for sentence in own)]
    if len(without) > NOISE * len(unchanged):
        single = (s for own in without for s in own if on_unchanged[s] == 1 and not on_changed[s])
        found |= dict.fromkeys(single, 1)
    return found


def no_change_of(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The no-change sentences of a data set, the most common first.

    NO_CHANGE_SENTENCES are added if a pair has no `changeflag`: they decide whether that pair changed.
    """
    known = () if all(pair.flagged for pair in pairs) else NO_CHANGE_SENTENCES
    return tuple(dict.fromkeys((*count_no_change(pairs), *known)))


def sentences_of(pair: Pair) -> dict[str, None]:
    """The distinct captions of a pair, words joined by blanks, in their order."""
    return dict.fromkeys(" ".join(words) for words in pair.captions)


def _rare_on_changed(on_unchanged: int, on_changed: int, unchanged: int, changed: int) -> bool:
    """Whether a sentence describes almost no changed pair.

    on_unchanged, on_changed: pairs that it describes, of `unchanged` and `changed` pairs. One changed pair
    may be an annotator's mistake. More of them must be rare: at most NOISE of the rate on unchanged pairs.
    In both cases the unchanged pairs must be the clear majority of all that the sentence describes.
    """
    if not on_changed:
        return True
    rare = on_changed == 1 or on_changed / changed <= NOISE * on_unchanged / unchanged
    return rare and on_unchanged >= MAJORITY * on_changed


def sentences_in_use(
    setting: Sequence[str] | None, checkpoint: Mapping, of_data: Sequence[str] = ()
) -> tuple[str, ...]:
    """The sentences that a model's captions are judged by.

    setting: `data.no_change`, which overrides the others. checkpoint: its content, whose "no_change" are
    those of the training data. of_data: those of the data that are scored. Older checkpoints store the seven
    NO_CHANGE_SENTENCES as the setting because that was its default: there it counts as not given.
    """
    old_default = "no_change" not in checkpoint and setting is not None
    if setting is not None and not (old_default and tuple(setting) == NO_CHANGE_SENTENCES):
        return tuple(setting)
    return tuple(dict.fromkeys((*checkpoint.get("no_change", ()), *of_data)))
