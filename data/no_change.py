"""The sentences that mean "nothing has changed", derived from a data set's captions and change flags."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

from data.sources import NO_CHANGE_SENTENCES, Pair

NOISE = 0.05  # tolerated fraction of annotation mistakes
MAJORITY = 3  # a sentence must describe at least this many times more unchanged than changed pairs


def count_no_change(pairs: Sequence[Pair]) -> dict[str, int]:
    """The no-change sentences of a data set, each with the number of unchanged pairs that it describes.

    A sentence counts if it describes at least two unchanged pairs and almost no changed one
    (`_rare_on_changed`). A sentence of a single unchanged pair may as well describe the scene: it counts only
    if more than NOISE of the unchanged pairs have no repeated sentence, and only for those pairs.

    Only pairs whose JSON entry has a `changeflag` are used: those of the training split, or of all splits if
    no training pair is unchanged. Augmented copies repeat their original and are not counted.
    """
    flagged = [pair for pair in pairs if pair.flagged]
    train = [pair for pair in flagged if pair.split == "train"]
    flagged = train if any(not pair.changed for pair in train) else flagged
    flagged = [pair for pair in flagged if not pair.augmented] or flagged
    unchanged, changed = [], []
    for pair in flagged:
        (changed if pair.changed else unchanged).append(sentences_of(pair))
    on_unchanged = Counter(chain.from_iterable(unchanged))
    on_changed = Counter(chain.from_iterable(changed))

    counts = {
        sentence: count
        for sentence, count in on_unchanged.most_common()
        if count > 1 and _rare_on_changed(count, on_changed[sentence], len(unchanged), len(changed))
    }
    without = [sentences for sentences in unchanged if counts.keys().isdisjoint(sentences)]
    if len(without) > NOISE * len(unchanged):
        for sentences in without:
            for sentence in sentences:
                if on_unchanged[sentence] == 1 and not on_changed[sentence]:
                    counts[sentence] = 1
    return counts


def no_change_of(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """The no-change sentences of a data set, most common first.

    NO_CHANGE_SENTENCES are added if a pair has no `changeflag`: they decide whether that pair changed.
    """
    known = () if all(pair.flagged for pair in pairs) else NO_CHANGE_SENTENCES
    return tuple(dict.fromkeys((*count_no_change(pairs), *known)))


def sentences_of(pair: Pair) -> dict[str, None]:
    """The distinct captions of a pair, words joined by spaces, in their original order."""
    return dict.fromkeys(" ".join(words) for words in pair.captions)


def _rare_on_changed(on_unchanged: int, on_changed: int, unchanged: int, changed: int) -> bool:
    """Whether a sentence describes almost no changed pair.

    on_unchanged, on_changed: the number of pairs that it describes, out of `unchanged` and `changed` pairs. A
    single changed pair may be an annotator's mistake. More must be rare: at most NOISE times the rate on
    unchanged pairs. In both cases the unchanged pairs must outnumber the changed ones by MAJORITY.
    """
    if not on_changed:
        return True
    rare = on_changed == 1 or on_changed / changed <= NOISE * on_unchanged / unchanged
    return rare and on_unchanged >= MAJORITY * on_changed


def sentences_in_use(
    setting: Sequence[str] | None, checkpoint: Mapping, of_data: Sequence[str] = ()
) -> tuple[str, ...]:
    """The no-change sentences used to score a model's captions.

    setting: `data.no_change`, which overrides the others. checkpoint: its content; "no_change" holds the
    sentences of the training data. of_data: the sentences of the scored data. Older checkpoints store the
    seven NO_CHANGE_SENTENCES as the setting, because that was its default; it then counts as not given.
    """
    old_default = "no_change" not in checkpoint and setting is not None
    if setting is not None and not (old_default and tuple(setting) == NO_CHANGE_SENTENCES):
        return tuple(setting)
    return tuple(dict.fromkeys((*checkpoint.get("no_change", ()), *of_data)))
