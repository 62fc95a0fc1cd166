"""Words of sentences: what separates them, and that `raw` and `tokens` give the same ones."""

import gzip
import json
from pathlib import Path

import pytest

from data.errors import UserError
from data.sources.words import NO_CHANGE_SENTENCES, captions_of, split_into_words


def words_of(**sentence: object) -> tuple[str, ...]:
    _, captions, _ = captions_of([sentence])
    return captions[0] if captions else ()


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("  A house, built by the road's end -- “now”. ", "a house built by the road's end now"),
        ("trees,houses and road/bare land;a pool", "trees houses and road bare land a pool"),
        ("a road\u2014and a house\u2026appear", "a road and a house appear"),
        ("two-storey T-shaped buildings", "two-storey t-shaped buildings"),
        ("the trees\u2019 shade doesn\u2019t end", "the trees shade doesn't end"),
        ("a newly\u2010built 'villa' -here- a--b", "a newly-built villa here a b"),
        ("50% of_the area (2.5 ha)\u00a0vanish", "50 of the area 2 5 ha vanish"),
        ("caf\u00e9 cafe\u0301 \u200bbuild\u00ading", "caf\u00e9 caf\u00e9 building"),
        (
            "\u0928\u093f\u0930\u094d\u092e\u093e\u0923 \uc0c8 \uac74\ubb3c",
            "\u0928\u093f\u0930\u094d\u092e\u093e\u0923 \uc0c8 \uac74\ubb3c",
        ),
        (". -- '", ""),
    ],
)
def test_punctuation_separates_words(sentence, words):
    assert split_into_words(sentence) == tuple(words.split())
    assert words_of(raw=sentence) == words_of(tokens=sentence.split()) == words_of(tokens=[sentence])


def test_raw_and_tokens_with_capitals_and_punctuation_give_the_same_words():
    expected = ("there", "is", "no", "difference")
    assert words_of(raw="There is no difference.") == expected
    assert words_of(tokens=["There", "is", "no", "difference", "."]) == expected
    assert words_of(raw="ignored", tokens=["There is no", "difference."]) == expected


def test_known_no_change_sentences_keep_their_words():
    for sentence in NO_CHANGE_SENTENCES:
        assert " ".join(split_into_words(sentence)) == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "\u9053\u8def\u65c1\u65b0\u5efa\u4e86\u4e00\u5ea7\u623f\u5b50\u3002",
        "\u9053\u8def\u65c1 \u65b0\u5efa\u4e86\u4e00\u5ea7\u623f\u5b50\u5e76\u4e14",
        "\u65b0\u3057\u3044\u5efa\u7269\u304c\u9053\u8def\u306e\u96a3\u306b\u5efa\u3066\u3089\u308c\u305f",
        "\u0e2d\u0e32\u0e04\u0e32\u0e23\u0e43\u0e2b\u0e21\u0e48\u0e02\u0e49\u0e32\u0e07\u0e16\u0e19\u0e19",
    ],
    ids=["Chinese", "Chinese with one blank", "Japanese", "Thai"],
)
def test_text_that_is_not_separated_by_blanks_needs_tokens(sentence):
    with pytest.raises(UserError, match="separated by blanks, got .*: give its `tokens`"):
        words_of(raw=sentence)
    words = (sentence[:2], sentence[-4:-2])
    assert words_of(raw=sentence, tokens=list(words)) == words
    assert words_of(raw=" ".join(words)) == words


def test_a_single_character_of_such_a_script_may_stand_in_a_sentence():
    assert words_of(raw="a temple (\u5bfa) appears") == ("a", "temple", "\u5bfa", "appears")


@pytest.mark.real
def test_words_of_levir_cc_do_not_change(real_data: Path):
    content = json.loads(gzip.decompress((real_data / "levir_cc_captions.json.gz").read_bytes()))
    sentences = [sentence for image in content["images"] for sentence in image["sentences"]]
    for sentence in sentences:
        assert words_of(tokens=sentence["tokens"]) == tuple(sentence["tokens"])
    differ = [s for s in sentences if split_into_words(s["raw"]) != tuple(s["tokens"])]
    assert len(differ) <= 1  # `a\\almost` is one token, but two words of text
