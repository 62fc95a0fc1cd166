"""Unknown words: the share above which they are warned of or refused, and the remedy, which works."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.unknown_words import MANY_UNKNOWN, UNUSABLE, check_vocabulary, warn_of_words
from data.vocabulary import Vocabulary
from tests.data.test_dataset_facts import pair


def built(pairs: list, min_word_freq: int) -> Vocabulary:
    """The vocabulary of the training captions."""
    train = (words for pair in pairs if pair.split == "train" for words in pair.captions)
    return Vocabulary.build(train, min_word_freq)


def with_rare_words(common: int, rare: int) -> list:
    """A pair whose caption has a common word `common` times and `rare` words once."""
    words = ["house"] * common + [f"w{index}" for index in range(rare)]
    return [pair("1.png", "train", " ".join(words))]


def test_ten_per_cent_of_unknown_words_are_not_warned_of():
    pairs = with_rare_words(90, 10)
    assert list(warn_of_words(pairs, built(pairs, 1), "train", None)) == []


def test_more_than_ten_per_cent_are_warned_of_with_a_better_min_word_freq():
    pairs = with_rare_words(89, 11)
    check_vocabulary(pairs, built(pairs, 1), "train", 1)
    (warning,) = warn_of_words(pairs, built(pairs, 1), "train", None)
    assert warning.problem == "unknown words: train 11.0%"
    assert warning.remedy == "give --min_word_freq 0, which leaves 0.0%"
    assert warning.examples[0] == "w0 1"


def test_more_than_twenty_per_cent_are_refused():
    check_vocabulary(pairs := with_rare_words(80, 20), built(pairs, 1), "train", 1)
    rule = (
        r"at most 20% of the training words may be unknown, --min_word_freq 1 leaves 21.0%: give --min_word"
    )
    with pytest.raises(UserError, match=rule):
        check_vocabulary(pairs := with_rare_words(79, 21), built(pairs, 1), "train", 1)


@given(st.lists(st.integers(0, 12).map("w{}".format), min_size=1, max_size=80), st.integers(1, 30))
def test_the_named_min_word_freq_is_the_largest_that_is_not_warned_of(words, min_word_freq):
    pairs = [pair("1.png", "train", " ".join(words))]
    vocabulary = built(pairs, min_word_freq)
    unknown = sum(word not in vocabulary for word in words) / len(words)
    try:
        check_vocabulary(pairs, vocabulary, "train", min_word_freq)
    except UserError as error:
        assert unknown > UNUSABLE
        remedy = str(error)
    else:
        assert unknown <= UNUSABLE
        warnings = list(warn_of_words(pairs, vocabulary, "train", None))
        assert bool(warnings) == (unknown > MANY_UNKNOWN)
        if not warnings:
            return
        remedy = warnings[0].remedy
    named = int(re.search(r"give --min_word_freq (\d+), which leaves", remedy)[1])
    assert named < min_word_freq
    assert not list(warn_of_words(pairs, built(pairs, named), "train", None))
    larger = built(pairs, named + 1)
    assert sum(word not in larger for word in words) / len(words) > MANY_UNKNOWN


def test_captions_of_special_tokens_are_refused_with_a_remedy_of_their_own():
    pairs = [pair("1.png", "train", "a <unk> <unk>")]
    with pytest.raises(UserError, match="the captions hold special tokens, such as <unk>: write the words"):
        check_vocabulary(pairs, built(pairs, 0), "train", 0)


def test_words_of_other_splits_are_compared_with_those_of_training():
    pairs = [pair("1.png", "train", "a house"), pair("2.png", "test", "a barn")]
    (warning,) = warn_of_words(pairs, built(pairs, 0), "train", None)
    assert warning.problem == "unknown words: test 50.0%"
    assert warning.remedy == "no caption of the model can have them: add training captions like those of test"


def test_splits_share_one_warning():
    pairs = [*with_rare_words(85, 15), pair("2.png", "val", "a barn"), pair("3.png", "test", "a barn house")]
    (warning,) = warn_of_words(pairs, built(pairs, 1), "train", None)
    assert warning.problem == "unknown words: train 15.0%, val 100.0%, test 66.7%"
    assert warning.remedy.startswith("give --min_word_freq 0")
    assert warning.examples[:2] == ["a 2", "barn 2"]


def test_without_a_train_split_the_vocabulary_of_a_model_is_suggested():
    pairs = [pair("2.png", "test", "a barn")]
    check_vocabulary(pairs, built(pairs, 5), "train", 5)
    (warning,) = warn_of_words(pairs, built(pairs, 5), "train", None)
    assert "give --vocabulary CHECKPOINT" in warning.remedy


def test_an_empty_vocabulary_of_all_splits_is_refused_without_a_train_split():
    pairs = [pair("2.png", "test", "a barn")]
    with pytest.raises(UserError, match="leaves 100.0%: give --min_word_freq 0, which leaves 0.0%"):
        check_vocabulary(pairs, built(pairs, 5), "all", 5)
