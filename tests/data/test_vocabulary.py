"""Vocabularies: threshold, order, round trips, and the counts of real captions."""

import gzip
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sources import parse_pairs
from data.vocabulary import SPECIALS, Vocabulary

words = st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"]), min_size=1).filter(
    lambda word: word not in SPECIALS and word.split() == [word]
)
captions = st.lists(st.lists(words, max_size=8), max_size=8)


def test_words_are_in_order_of_first_appearance():
    vocabulary = Vocabulary.build([["b", "a"], ["c", "a"]], min_word_freq=0)
    assert vocabulary.words == ("<pad>", "b", "a", "c", "<unk>", "<start>", "<end>")
    assert (vocabulary.pad, vocabulary.unk, vocabulary.start, vocabulary.end) == (0, 4, 5, 6)


def test_a_word_must_be_seen_more_often_than_the_threshold():
    vocabulary = Vocabulary.build([["six"] * 6, ["five"] * 5], min_word_freq=5)
    assert "six" in vocabulary
    assert "five" not in vocabulary


def test_encode_pads_to_the_maximum_length_and_two():
    vocabulary = Vocabulary.build([["a", "house"]], min_word_freq=0)
    assert vocabulary.encode(["a", "barn"], max_length=4) == [4, 1, 3, 5, 0, 0]


def test_encode_refuses_more_words_than_the_maximum():
    vocabulary = Vocabulary.build([], min_word_freq=0)
    assert len(vocabulary.encode(["a"] * 3, max_length=3)) == 5
    with pytest.raises(ValueError, match="at most 3 words, got 4"):
        vocabulary.encode(["a"] * 4, max_length=3)


def test_decode_drops_start_end_and_pad_wherever_they_are_and_keeps_unk():
    vocabulary = Vocabulary.build([["a", "house"]], min_word_freq=0)
    a, house = 1, 2
    ids = [a, vocabulary.end, vocabulary.start, vocabulary.unk, vocabulary.pad, house, vocabulary.end]
    assert vocabulary.decode(ids) == "a <unk> house"


def test_special_token_in_a_caption_is_an_unknown_word():
    vocabulary = Vocabulary.build([["<end>", "a", "<end>"]], min_word_freq=0)
    assert len(vocabulary) == 5
    assert vocabulary.decode(vocabulary.encode(["a", "<end>", "a"], max_length=3)) == "a <unk> a"


@given(captions)
def test_encode_decode_round_trip(texts):
    vocabulary = Vocabulary.build(texts, min_word_freq=0)
    for text in texts:
        assert vocabulary.decode(vocabulary.encode(text, max_length=8)) == " ".join(text)


@given(captions, st.integers(0, 3))
def test_build_keeps_exactly_the_frequent_words(texts, threshold):
    counts = Counter(word for text in texts for word in text)
    vocabulary = Vocabulary.build(texts, threshold)
    assert set(vocabulary.words) - set(SPECIALS) == {word for word in counts if counts[word] > threshold}


@given(captions)
def test_word_map_round_trip(texts):
    vocabulary = Vocabulary.build(texts, min_word_freq=0)
    assert Vocabulary.from_word_map(vocabulary.to_word_map()).words == vocabulary.words


def test_file_round_trip(tmp_path):
    vocabulary = Vocabulary.build([["maison", "été", "家"]], min_word_freq=0)
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json").words == vocabulary.words


def test_a_repeated_word_is_refused():
    with pytest.raises(ValueError, match=r"each word once, got more than once: \['a'\]"):
        Vocabulary([*SPECIALS, "a", "a"])


def test_a_missing_special_token_is_refused():
    with pytest.raises(ValueError, match=r"missing: \['<end>'\]"):
        Vocabulary(["<pad>", "<unk>", "<start>", "a"])


def test_a_word_map_with_a_gap_is_refused():
    with pytest.raises(ValueError, match="0 to 3, each once"):
        Vocabulary.from_word_map({"<pad>": 0, "<unk>": 1, "<start>": 2, "<end>": 4})


def test_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"vocabulary\.json not found: run tools/create_input_files\.py"
    ):
        Vocabulary.load(tmp_path / "vocabulary.json")


@pytest.mark.parametrize(("text", "rule"), [("{", "is not JSON"), ('{"a": 1}', "must hold a list of words")])
def test_a_file_of_another_kind_is_refused(tmp_path, text, rule):
    (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(ValueError, match=rule):
        Vocabulary.load(tmp_path / "vocabulary.json")


@pytest.mark.real
@pytest.mark.parametrize("threshold", [0, 5, 10])
def test_real_captions_give_the_vocabulary_of_a_direct_count(real_data, tmp_path, threshold):
    annotations = tmp_path / "captions.json"
    annotations.write_bytes(gzip.decompress((real_data / "levir_cc_captions.json.gz").read_bytes()))
    train = [image for image in json.loads(annotations.read_text())["images"] if image["split"] == "train"]
    tokens = [token for image in train for sentence in image["sentences"] for token in sentence["tokens"]]
    counts = Counter(tokens)

    pairs = [pair for pair in parse_pairs(tmp_path, annotations) if pair.split == "train"]
    vocabulary = Vocabulary.build((words for pair in pairs for words in pair.captions), threshold)

    assert list(vocabulary.words[1:-3]) == [word for word in counts if counts[word] > threshold]
    assert vocabulary.words[0] == "<pad>"
    assert vocabulary.words[-3:] == ("<unk>", "<start>", "<end>")
