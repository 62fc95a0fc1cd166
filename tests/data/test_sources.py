"""LEVIR-CC's JSON as pairs: SECOND-CC's and LEVIR-MCI's folders, and every rule of the JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data.sources import NO_CHANGE_SENTENCES, Pair, parse_pairs, read_dataset
from tests.conftest import entry


@pytest.fixture
def parsed(tmp_path: Path) -> Callable[..., list[Pair]]:
    """A function from JSON entries to pairs, no image needed."""

    def parse(*entries: object) -> list[Pair]:
        annotations = tmp_path / "captions.json"
        annotations.write_text(json.dumps({"images": entries}))
        return parse_pairs(tmp_path, annotations)

    return parse


def sentences(*texts: str) -> list[dict]:
    return [{"raw": text} for text in texts]


def levir_folder(root: Path, *kinds: str) -> Path:
    """One pair in LEVIR-MCI's layout; the files are empty."""
    for kind in kinds:
        folder = root / "images" / "train" / kind
        folder.mkdir(parents=True)
        (folder / "train_000001.png").touch()
    item = {"filename": "train_000001.png", "split": "train", "sentences": sentences("a house appears .")}
    (root / "LevirCCcaptions.json").write_text(json.dumps({"images": [item]}))
    return root


def test_second_cc_layout(second_cc_folder):
    root = second_cc_folder()
    pairs = read_dataset(root).pairs
    assert [pair.filename for pair in pairs] == [f"{number:05d}.png" for number in range(1, 7)]
    assert [pair.split for pair in pairs] == ["train", "train", "train", "val", "test", "test"]
    assert [pair.changed for pair in pairs] == [True, False, True, True, True, False]
    folders = ("rgb/A", "rgb/B", "sem/A", "sem/B")
    assert pairs[3].views == tuple(root / "val" / folder / "00004.png" for folder in folders)
    assert pairs[3].captions == (("a", "house", "appears"), ("a", "barn", "appears"))
    assert pairs[3].raw == (" a house appears .", " a barn appears .")


def test_without_a_sem_folder_the_maps_are_void(second_cc_folder):
    assert read_dataset(second_cc_folder(with_maps=False)).pairs[0].views[2:] == (None, None)


def test_levir_mci_layout_has_one_label_per_pair(tmp_path):
    (pair,) = read_dataset(levir_folder(tmp_path, "A", "B", "label")).pairs
    folder = tmp_path / "images" / "train"
    assert pair.views == (folder / "A" / "train_000001.png", folder / "B" / "train_000001.png", None, None)
    assert pair.label == folder / "label" / "train_000001.png"


def test_levir_cc_has_no_label(tmp_path):
    (pair,) = read_dataset(levir_folder(tmp_path, "A", "B")).pairs
    assert pair.label is None


def test_restval_counts_as_train_and_uses_filepath(parsed, tmp_path):
    named, unnamed = parsed(
        entry("1.png", "restval", "a house", filepath="val"),
        entry("2.png", "restval", "a house", filepath=None),
    )
    assert named.split == unnamed.split == "train"
    assert named.views[0] == tmp_path / "val" / "rgb" / "A" / "1.png"
    assert unnamed.views[0] == tmp_path / "train" / "rgb" / "A" / "2.png"
    (tmp_path / "restval").mkdir()
    (housed,) = parsed(entry("2.png", "restval", "a house", filepath=None))
    assert housed.views[0] == tmp_path / "restval" / "rgb" / "A" / "2.png"


def test_without_filepath_the_folder_is_the_split(parsed, tmp_path):
    item = entry("1.png", "test", "a house")
    del item["filepath"]
    assert parsed(item)[0].views[1] == tmp_path / "test" / "rgb" / "B" / "1.png"


def test_augmented_pairs_are_recognised_by_name(parsed):
    names = ["00003.png", "00003_random_augment.png", "00003_random_augment_90.png"]
    pairs = parsed(*(entry(name, "train", "a house") for name in names))
    assert [pair.augmented for pair in pairs] == [False, True, True]


def test_tokens_take_precedence_over_raw_text(parsed):
    given = [{"raw": "Raw.", "tokens": ["t-shaped"]}, {"raw": "Raw."}, {"tokens": ["a", "barn"]}]
    (pair,) = parsed(entry("1.png", "train", sentences=given))
    assert pair.captions == (("t-shaped",), ("raw",), ("a", "barn"))
    assert pair.raw == ("Raw.", "Raw.", "a barn")


def test_spaces_in_tokens_separate_words(parsed):
    (pair,) = parsed(entry("1.png", "train", sentences=[{"tokens": ["parking lot", "", " appears "]}]))
    assert pair.captions == (("parking", "lot", "appears"),)


def test_sentences_without_words_are_counted_and_left_out(parsed):
    (pair,) = parsed(entry("1.png", "train", sentences=sentences(" .", "A house.", "")))
    assert pair.captions == (("a", "house"),)
    assert pair.raw == ("A house.",)
    assert pair.wordless == 2


@pytest.mark.parametrize(
    ("texts", "changed"),
    [
        (NO_CHANGE_SENTENCES, False),
        ((*NO_CHANGE_SENTENCES[:2], "a house appears"), False),
        (("a house appears", "there is no difference"), True),
        (("a house appears",), True),
    ],
)
def test_without_a_changeflag_the_majority_of_captions_decides(parsed, texts, changed):
    (pair,) = parsed(entry("1.png", "train", *texts, changeflag=None))
    assert pair.changed is changed


def test_changeflag_takes_precedence_over_captions(parsed):
    (pair,) = parsed(entry("1.png", "train", *NO_CHANGE_SENTENCES, changeflag=1))
    assert pair.changed is True


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        ("text", r"images\[0\]: an entry must be an object, got 'text'"),
        ({"split": "train"}, r"images\[0\]: `filename` must be a name of 1 to 255 characters, got None"),
        (
            entry("1.png", "dev", "a house"),
            r"\(1\.png\): `split` must be one of train, restval, val, test, got 'dev'",
        ),
        (entry("1.png", ["train"], "a house"), "`split` must be one of"),
        (entry("1.png", "train", "a house", filepath=3), "`filepath` must be a name of .*, got 3"),
        (entry("../1.png", "train", "a house"), "`filename` must be a path inside the data set's folder"),
        (entry("a/../../1.png", "train", "a house"), r"got 'a/../../1.png': make it relative"),
        (entry("/etc/1.png", "train", "a house"), "`filename` must be a path inside"),
        (entry("1.png", "train", "a house", filepath="/etc"), "`filepath` must be a path inside"),
        (entry("1.png", "train", "a house", filepath="../other"), "`filepath` must be a path inside"),
        (entry("1" * 300, "train", "a house"), "`filename` must be a name of 1 to 255 characters"),
        (entry("1\0.png", "train", "a house"), r"`filename` must be plain text, got the character '\\x00'"),
        (entry("1.png", "train", "a \ud800 house"), r"must be plain text, got the character '\\ud800'"),
        (entry("1.png", "train", *["a house"] * 1001), "at most 1000 sentences, got 1001"),
        (entry("1.png", "train", sentences="a house"), "`sentences` must be a list, got 'a house'"),
        (entry("1.png", "train", sentences=["a house"]), 'a sentence must be an object .*: write ."raw": '),
        (
            {"filename": "1.png", "split": "train", "captions": ["a house"]},
            'captions must be under `sentences`, got `captions`: write `"sentences": \\[."raw"',
        ),
        (entry("1.png", "train", sentences=[{"sentid": 1}]), "a sentence needs `tokens` or `raw`"),
        (entry("1.png", "train", sentences=[{"raw": 5}]), "`raw` must be text, got 5"),
        (entry("1.png", "train", sentences=[{"tokens": "a house"}]), "`tokens` must be a list of words"),
        (entry("1.png", "train", sentences=[{"tokens": [1]}]), "`tokens` must be a list of words"),
        (entry("1.png", "train", "a house", changeflag="yes"), "`changeflag` must be 0 or 1, got 'yes'"),
    ],
)
def test_invalid_entry_is_named_with_its_file(parsed, item, rule):
    with pytest.raises(ValueError, match=r"captions\.json: images\[0\]") as caught:
        parsed(item)
    assert caught.match(rule)


def test_file_name_must_be_unique_in_a_split(parsed):
    parsed(entry("1.png", "train", "a house"), entry("1.png", "test", "a house"))
    with pytest.raises(ValueError, match=r"1\.png must occur once in train, got 2 times"):
        parsed(entry("1.png", "train", "a house"), entry("1.png", "restval", "a house"))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"images": [', "is not JSON"),
        ("[" * 100_000, "is not JSON that can be read"),
        ("[1, 2]", "must hold an object with a non-empty list `images`"),
        ('{"images": {}}', "must hold an object with a non-empty list `images`"),
        ('{"images": []}', "must hold an object with a non-empty list `images`"),
    ],
)
def test_a_file_of_another_kind_is_refused(second_cc_folder, text, rule):
    root = second_cc_folder()
    (root / "SECOND-CC-AUG.json").write_text(text)
    with pytest.raises(ValueError, match=rf"SECOND-CC-AUG\.json {rule}"):
        read_dataset(root)


def test_single_json_of_any_name_is_used(second_cc_folder):
    root = second_cc_folder()
    (root / "SECOND-CC-AUG.json").rename(root / "ours.json")
    assert len(read_dataset(root).pairs) == 6
    (root / "more.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"must hold one captions file, .* got more\.json, ours\.json: name the"
    ):
        read_dataset(root)
    assert len(read_dataset(root / "ours.json").pairs) == 6
    (root / "ours.json").rename(root / "SECOND-CC-AUG.json")
    assert len(read_dataset(root).pairs) == 6


def test_a_folder_without_json_or_without_anything(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.json"):
        read_dataset(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere not found: --dataset_dir must name a folder"):
        read_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["train/rgb/A/00002.png", "train/rgb/B/00002.png", "train/sem/A/00002.png"])
def test_missing_image_is_named_before_any_is_read(second_cc_folder, file):
    root = second_cc_folder()
    (root / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} not found: SECOND-CC-AUG.json lists 00002.png"):
        read_dataset(root)


def test_source_is_given_or_derived_from_the_name(parsed):
    pairs = parsed(
        entry("3_0_256.png", "train", "a house"),
        entry("4_0_256.png", "train", "a house", source="tile 7"),
        entry("5.png", "train", "a house"),
    )
    assert [pair.source for pair in pairs] == ["3", "tile 7", None]


@pytest.mark.parametrize("source", [7, "", ["tile"]])
def test_invalid_source_is_refused(parsed, source):
    with pytest.raises(ValueError, match="`source` must name the image that a pair was cut from, got"):
        parsed(entry("5.png", "train", "a house", source=source))
