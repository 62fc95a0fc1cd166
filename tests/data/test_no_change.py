"""The no-change sentences are determined from the data."""

import gzip
import json
from pathlib import Path

import pytest

from data.dataset_facts import describe_no_change
from data.dataset_warnings import warn_of_flags
from data.no_change import count_no_change, no_change_of, sentences_in_use
from data.sources import NO_CHANGE_SENTENCES, Pair, parse_pairs
from tests.conftest import entry

SAME, ALIKE, HOUSE = "nothing changed here", "both images look alike", "a house appears"


def pairs(
    *groups: tuple[int, tuple[str, ...], bool | None], split: str = "train", start: int = 0
) -> list[Pair]:
    """Groups of (number of pairs, their captions, whether they changed; None: without a `changeflag`)."""
    actual = []
    for count, captions, changed in groups:
        for _ in range(count):
            actual.append(
                Pair(
                    filename=f"{start + len(actual):05d}.png",
                    split=split,
                    views=(None,) * 4,
                    captions=tuple(tuple(caption.split()) for caption in captions),
                    raw=captions,
                    changed=changed is not False,
                    augmented=False,
                    flagged=changed is not None,
                )
            )
    return actual


def test_sentences_of_unchanged_pairs_only():
    actual = count_no_change(pairs((3, (SAME, ALIKE), False), (2, (SAME, SAME), False), (5, (HOUSE,), True)))
    assert actual == {SAME: 5, ALIKE: 3}
    assert list(actual) == [SAME, ALIKE]


@pytest.mark.parametrize(
    "sentence",
    ["rien n'a changé", "変化 なし", "No Change", "unchanged"],
    ids=["French", "Japanese", "capitals", "one word"],
)
def test_single_sentence_in_any_language(sentence):
    assert list(count_no_change(pairs((4, (sentence,), False), (4, (HOUSE,), True)))) == [sentence]


@pytest.mark.parametrize(
    ("unchanged", "changed", "strays", "counts"),
    [
        (4, 4, 1, True),  # one annotator's mistake
        (3, 50, 1, True),
        (2, 4, 1, False),  # too few to tell a mistake
        (100, 100, 5, True),  # at most 5 % as often on changed pairs
        (100, 100, 6, False),
        (1000, 10, 2, False),  # on 0.2 % as many changed as unchanged pairs, but on 20 % of the changed ones
        (2, 1000, 40, False),  # rare on changed pairs, but most pairs that have it changed
    ],
)
def test_rare_sentences_on_changed_pairs_are_tolerated(unchanged, changed, strays, counts):
    captions = pairs(
        (unchanged, (SAME,), False), (strays, (SAME, HOUSE), True), (changed - strays, (HOUSE,), True)
    )
    assert (SAME in count_no_change(captions)) is counts


def test_sentence_of_a_single_unchanged_pair_does_not_count():
    described = pairs((3, (SAME,), False), (1, (SAME, "a road through a forest"), False), (3, (HOUSE,), True))
    assert count_no_change(described) == {SAME: 4}
    mislabelled = pairs((40, (SAME,), False), (1, ("a house on a hill",), False), (3, (HOUSE,), True))
    assert count_no_change(mislabelled) == {SAME: 40}


def test_unrepeated_sentences_count_if_the_pair_has_no_other():
    captions = [*pairs((2, (SAME,), False)), *pairs((1, ("no difference", "as before"), False), start=9)]
    assert count_no_change([*captions, *pairs((2, (HOUSE,), True), start=20)]) == {
        SAME: 2,
        "no difference": 1,
        "as before": 1,
    }
    stray = pairs((1, (HOUSE,), False), (3, (HOUSE,), True))
    assert count_no_change(stray) == {}


def test_only_training_pairs_without_copies_count():
    train = pairs((2, (SAME,), False), (2, (HOUSE,), True))
    test = pairs((3, (ALIKE,), False), split="test")
    assert list(count_no_change([*train, *test])) == [SAME]
    assert list(count_no_change([*pairs((2, (HOUSE,), True)), *test])) == [
        ALIKE
    ]  # no training pair is unchanged
    copy = Pair(**{**vars(train[0]), "augmented": True, "captions": ((*SAME.split(),), ("trees",))})
    assert list(count_no_change([*train, copy, copy])) == [SAME]


def test_without_unchanged_or_without_changed_pairs():
    only_changed = pairs((3, (HOUSE,), True))
    assert no_change_of(only_changed) == ()
    assert list(describe_no_change(only_changed)) == ["no-change sentences (number of unchanged pairs): none"]
    assert no_change_of(pairs((3, (SAME,), False))) == (SAME,)


def test_missing_changeflags_are_warned_of():
    unflagged = pairs((2, (SAME,), None), (1, (HOUSE,), None))
    assert no_change_of(unflagged) == NO_CHANGE_SENTENCES
    (warning,) = warn_of_flags([*unflagged, *pairs((1, (HOUSE,), True))])
    assert warning.problem == (
        "pairs without `changeflag`: 3, they all count as changed: without `changeflag`, a pair is unchanged "
        "only if most of its captions are among 7 known sentences, such as 'the scene is the same as before'"
    )
    assert warning.remedy == "give each entry a `changeflag`, 0 (unchanged) or 1 (changed)"
    mixed = no_change_of([*pairs((2, (SAME,), False)), *unflagged])
    assert mixed == (SAME, *NO_CHANGE_SENTENCES)


def test_split_with_other_sentences_is_warned_of():
    groups = [*pairs((3, (SAME,), False), (3, (HOUSE,), True)), *pairs((2, (ALIKE,), False), split="test")]
    (warning,) = warn_of_flags(groups)
    assert warning.problem == (
        "test: unchanged pairs without any no-change sentence among their captions: 2 of 2"
    )
    assert "data.no_change" in warning.remedy
    same = pairs((2, (ALIKE, SAME), False), split="test")
    assert list(warn_of_flags([*groups[:6], *same])) == []


def test_changed_pairs_with_no_change_captions_are_warned_of():
    groups = pairs((8, (SAME,), False), (3, (HOUSE,), True), (1, (SAME, SAME, HOUSE), True))
    (warning,) = warn_of_flags(groups)
    assert warning.problem == "changed pairs whose captions say that nothing has changed: 1"
    assert len(warning.examples) == 1
    assert "`changeflag`" in warning.remedy


def test_counts_are_printed_and_long_lists_cut():
    groups = [(number, (f"the same {number}",), False) for number in range(2, 15)]
    (line,) = describe_no_change(pairs(*groups))
    assert '"the same 14" 14; "the same 13" 13;' in line
    assert line.endswith("; and 3 more")


def test_the_setting_overrides_the_checkpoint_and_the_data():
    assert sentences_in_use([ALIKE], {"no_change": [SAME]}, (HOUSE,)) == (ALIKE,)
    assert sentences_in_use([], {"no_change": [SAME]}, (HOUSE,)) == ()
    assert sentences_in_use(None, {"no_change": [SAME]}, (ALIKE, SAME)) == (SAME, ALIKE)


def test_default_list_of_an_old_checkpoint_does_not_override_the_data():
    assert sentences_in_use(list(NO_CHANGE_SENTENCES), {}, (SAME,)) == (SAME,)
    assert sentences_in_use([ALIKE], {}, (SAME,)) == (ALIKE,)
    assert sentences_in_use(list(NO_CHANGE_SENTENCES), {"no_change": []}, (SAME,)) == NO_CHANGE_SENTENCES


def test_changeflag_0_counts_as_given(tmp_path):
    path = tmp_path / "captions.json"
    images = [entry(f"{n}.png", "train", SAME, changeflag=flag) for n, flag in enumerate((0, 1, None))]
    path.write_text(json.dumps({"images": images}))
    assert [pair.flagged for pair in parse_pairs(tmp_path, path)] == [True, True, False]


@pytest.mark.real
def test_the_sentences_of_levir_cc(real_data: Path, tmp_path):
    path = tmp_path / "LevirCCcaptions.json"
    path.write_bytes(gzip.decompress((real_data / "levir_cc_captions.json.gz").read_bytes()))
    assert set(no_change_of(parse_pairs(tmp_path, path))) <= set(NO_CHANGE_SENTENCES)
