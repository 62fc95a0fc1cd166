"""The authors' files: identical content when written, reading, training and evaluation."""

import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import pytest

import eval as evaluation
import train
from data.authors_files import AuthorsReader
from data.hdf5 import SplitReader, split_path
from data.settings import DataConfig
from data.splits import open_split
from tests.conftest import CONFIGS, entry
from tests.helpers.tiny import tiny_settings
from tools import create_input_files

NAME = "SECOND_CC_5_cap_per_img_1_min_word_freq"
SPLITS = ("train", "val", "test")
HOUSE, BARN, SAME = "a house appears", "a barn appears", "the scene is the same as before"
ENTRIES = [
    entry("rest.png", "restval", "a barn is built", filepath="train"),
    entry("late.png", "test", BARN, "a barn stands in the corner"),
    entry("seven.png", "train", *[f"{HOUSE} {number % 6}" for number in range(7)]),
    entry("long.png", "train", "very " * 50 + "long", HOUSE),
    entry("silent.png", "train", "endless " * 51, "endless " * 60),
    entry("copy_random_augment.png", "val", HOUSE),
    entry("same.png", "val", "almost nothing is changed", SAME, changeflag=0),
    entry("disputed.png", "test", BARN, SAME, "a tower and a barn"),
]


def prepare(dataset: Path, output: Path, *options: str) -> Path:
    """Input files of a dataset folder; words seen more than once are known."""
    argv = ["--dataset_dir", str(dataset), "--output_dir", str(output), "--workers", "1"]
    create_input_files.main([*argv, "--min_word_freq", "1", *options])
    return output


@pytest.fixture
def dataset(second_cc_folder: Callable[..., Path]) -> Path:
    return second_cc_folder(ENTRIES)


@pytest.fixture
def authors_files(dataset: Path, tmp_path: Path) -> Path:
    """The authors' files of the entries above, 16 x 16."""
    return prepare(dataset, tmp_path / "authors_files", "--format", "released", "--image_size", "16")


def annotations(dataset: Path) -> Path:
    return dataset / "SECOND-CC-AUG.json"


def rewrite(path: Path, change: Callable) -> None:
    """Apply `change` to the content of a JSON file."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def naive_set(root: Path, threshold: int) -> tuple[dict, dict[str, tuple]]:
    """Word map, and for each split images, captions and lengths, straight from the JSON and the PNG files."""
    images = json.loads((root / "SECOND-CC-AUG.json").read_text())["images"]
    counts = Counter(word for image in images for s in image["sentences"] for word in s["tokens"])
    words = [word for word in counts if counts[word] > threshold]
    ids = {word: index for index, word in enumerate([*words, "<unk>", "<start>", "<end>"], start=1)}
    ids["<pad>"] = 0
    splits = {"TRAIN": ([], [], []), "VAL": ([], [], []), "TEST": ([], [], [])}
    for image in images:
        short = [s["tokens"] for s in image["sentences"] if len(s["tokens"]) <= 50]
        if not short:
            continue
        views, captions, lengths = splits["TRAIN" if image["split"] == "restval" else image["split"].upper()]
        four = [
            iio.imread(root / image["filepath"] / folder / image["filename"]).transpose(2, 0, 1)
            for folder in ("rgb/A", "rgb/B", "sem/A", "sem/B")
        ]
        for semantic in four[2:]:
            semantic[:, (semantic == 255).all(axis=0)] = 0
        views.append(four)
        for words in (short[:5] * 5)[:5]:
            inside = [ids.get(word, ids["<unk>"]) for word in words]
            captions.append([ids["<start>"], *inside, ids["<end>"], *[0] * (50 - len(words))])
            lengths.append(len(words) + 2)
    return ids, splits


def test_files_equal_a_naive_recomputation(second_cc_folder, tmp_path):
    root = second_cc_folder(ENTRIES, size=256)
    output = prepare(root, tmp_path / "authors_files", "--format", "released")
    ids, splits = naive_set(root, threshold=1)
    word_map = (output / f"WORDMAP_{NAME}.json").read_text()
    assert list(json.loads(word_map).items()) == list(ids.items())
    for split, (views, captions, lengths) in splits.items():
        assert json.loads((output / f"{split}_CAPTIONS_{NAME}.json").read_text()) == captions
        assert json.loads((output / f"{split}_CAPLENS_{NAME}.json").read_text()) == lengths
        with h5py.File(output / f"{split}_IMAGES_{NAME}.hdf5") as file:
            assert dict(file.attrs) == {"captions_per_image": 5}
            assert list(file) == ["images"]
            assert file["images"].dtype == np.uint8
            assert file["images"].shape == (len(views), 4, 3, 256, 256)
            assert file["images"][:].tobytes() == np.array(views).tobytes()
    assert len(list(output.iterdir())) == 10


@pytest.mark.parametrize("split", SPLITS)
def test_our_files_and_the_authors_files_hold_the_same_data(second_cc_folder, tmp_path, split):
    root = second_cc_folder([item for item in ENTRIES if item["filename"] != "silent.png"])
    options = ["--image_size", "16", "--vocabulary_splits", "all"]
    ours = SplitReader(split_path(prepare(root, tmp_path / "own", *options), split))
    folder = prepare(root, tmp_path / "authors_files", *options, "--format", "released")
    reader = AuthorsReader(folder, split, annotations(root))
    assert len(reader) == len(ours)
    for name in ("filenames", "references", "raw", "image_size", "has_human_words"):
        assert getattr(reader, name) == getattr(ours, name), name
    for name in ("tokens", "lengths", "changed", "augmented"):
        np.testing.assert_array_equal(getattr(reader, name), getattr(ours, name), strict=True)
    assert reader.vocabulary.words == ours.vocabulary.words
    for index in range(len(ours)):
        np.testing.assert_array_equal(reader.views(index), ours.views(index), strict=True)


def test_without_annotations_pairs_are_named_by_index_and_flagged_by_captions(authors_files):
    reader = AuthorsReader(authors_files, "test")
    assert not reader.has_human_words
    assert reader.filenames == ["test_000000", "test_000001"]
    assert reader.references[1][:3] == [BARN, SAME, "a <unk> <unk> a barn"]
    assert len(reader.references[1]) == 5
    assert reader.changed.tolist() == [True, True]  # SAME is one of three captions, repeated once
    assert not AuthorsReader(authors_files, "test", no_change=[SAME, BARN]).changed[1]
    assert AuthorsReader(authors_files, "val").augmented.tolist() == [False, False]


def test_annotations_provide_names_flags_and_sentences(authors_files, dataset):
    reader = AuthorsReader(authors_files, "test", annotations(dataset))
    assert reader.has_human_words
    assert reader.filenames == ["late.png", "disputed.png"]
    assert reader.references[1] == [BARN, SAME, "a tower and a barn"]
    assert reader.changed.tolist() == [True, True]
    assert AuthorsReader(authors_files, "val", annotations(dataset)).augmented.tolist() == [True, False]
    names = AuthorsReader(authors_files, "train", annotations(dataset)).filenames
    assert names == ["rest.png", "seven.png", "long.png"]  # silent.png has no images


def test_stored_captions_in_any_order_and_number_are_found_in_the_annotations(authors_files, dataset):
    def shuffled(captions: list) -> list:
        pairs = [captions[first : first + 5] for first in range(0, len(captions), 5)]
        return [caption for pair in pairs for caption in (*pair[3:], *pair[:3])]

    for kind in ("CAPTIONS", "CAPLENS"):
        rewrite(authors_files / f"TRAIN_{kind}_{NAME}.json", shuffled)
    assert len(AuthorsReader(authors_files, "train", annotations(dataset))) == 3


def swapped(content: dict) -> dict:
    images = content["images"]
    images[0], images[2] = images[2], images[0]
    return content


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (swapped, r'"a barn is <unk>" of pair 0 must be a sentence of seven\.png in .*SECOND-CC-AUG\.json'),
        (lambda content: {"images": content["images"][:3]}, "TRAIN_IMAGES_.* holds 3 pairs, .* describes 2"),
        (lambda content: {"images": []}, "non-empty list `images`"),
    ],
)
def test_annotations_of_other_files_are_refused(authors_files, dataset, change, rule):
    rewrite(annotations(dataset), change)
    with pytest.raises(ValueError, match=rule):
        AuthorsReader(authors_files, "train", annotations(dataset))


def test_missing_annotations_are_named(authors_files):
    with pytest.raises(FileNotFoundError, match=r"no\.json not found: data\.annotations names the JSON"):
        AuthorsReader(authors_files, "train", authors_files / "no.json")


def send_views(reader: AuthorsReader, results: multiprocessing.Queue) -> None:
    results.put([reader.views(index) for index in range(len(reader))])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_all_processes_read_the_same_data(authors_files, method):
    reader = AuthorsReader(authors_files, "train")
    expected = [reader.views(index) for index in range(len(reader))]  # the parent holds the file open
    context = multiprocessing.get_context(method)
    results = context.Queue()
    worker = context.Process(target=send_views, args=(reader, results))
    worker.start()
    np.testing.assert_array_equal(results.get(timeout=60), expected)
    worker.join()
    np.testing.assert_array_equal(reader.views(0), expected[0])


def test_fingerprint_depends_on_the_content(authors_files):
    before = AuthorsReader(authors_files, "train").fingerprint
    assert AuthorsReader(authors_files, "train").fingerprint == before
    rewrite(authors_files / f"TRAIN_CAPTIONS_{NAME}.json", lambda captions: [captions[1], *captions[1:]])
    rewrite(authors_files / f"TRAIN_CAPLENS_{NAME}.json", lambda lengths: [lengths[1], *lengths[1:]])
    assert (
        AuthorsReader(authors_files, "train").fingerprint == before
    )  # all captions of the first pair are alike
    with h5py.File(authors_files / f"TRAIN_IMAGES_{NAME}.hdf5", "r+") as file:
        file["images"][0, 0, 0, 0, 0] ^= 1
    other_images = AuthorsReader(authors_files, "train").fingerprint
    rewrite(authors_files / f"WORDMAP_{NAME}.json", lambda ids: {**ids, "more": len(ids)})
    assert len({before, other_images, AuthorsReader(authors_files, "train").fingerprint}) == 3


def test_splits_may_have_other_names_or_be_missing(authors_files):
    for path in list(authors_files.glob(f"VAL_*_{NAME}.*")):
        path.rename(path.with_name(path.name.replace(NAME, "mine")))
    for path in list(authors_files.glob("TEST_*")):
        path.unlink()
    assert len(open_split("val", DataConfig(dir=str(authors_files)))[0]) == 2
    assert len(open_split("train", DataConfig(dir=str(authors_files)))[0]) == 3
    with pytest.raises(
        FileNotFoundError,
        match=r"TEST_IMAGES_\*\.hdf5 not found: the data set has no test pairs, only train and val",
    ):
        open_split("test", DataConfig(dir=str(authors_files)))


def test_augmented_pairs_are_known_with_annotations_only(authors_files, dataset):
    assert open_split("val", DataConfig(dir=str(authors_files)))[1] == [0, 1]
    known = DataConfig(dir=str(authors_files), annotations=str(annotations(dataset)))
    assert open_split("val", known)[1] == [1]


def test_two_kinds_of_files_in_one_folder_are_refused(authors_files):
    (authors_files / "vocabulary.json").write_text("[]")
    with pytest.raises(ValueError, match=r"one kind of input files, found vocabulary\.json and TRAIN_IMAGES"):
        open_split("train", DataConfig(dir=str(authors_files)))


def longer(path: Path) -> None:
    rewrite(path, lambda content: [*content, content[-1]])


def first(change: Callable) -> Callable[[Path], None]:
    """A damage that changes the first caption or length of a file."""
    return lambda path: rewrite(path, lambda content: [change(content[0]), *content[1:]])


@pytest.mark.parametrize(
    ("kind", "damage", "rule"),
    [
        (
            "CAPTIONS",
            longer,
            "holds 3 pairs of 5 captions, beside files of 16 captions and 15 lengths",
        ),
        ("CAPLENS", longer, "beside files of 15 captions and 16 lengths"),
        ("CAPTIONS", first(lambda ids: [ids[0], 99, *ids[2:]]), r"ids below \d+ .* number 0 is not"),
        ("CAPTIONS", first(lambda ids: [ids[0], -1, *ids[2:]]), "number 0 is not"),
        ("CAPTIONS", first(lambda ids: [ids[1], *ids[1:]]), "number 0 is not"),
        ("CAPTIONS", first(lambda ids: ids[:-1]), "CAPTIONS_.* must hold rows of one length .*inhomogeneous"),
        ("CAPTIONS", first(lambda ids: ["a", *ids[1:]]), "must hold integers in 2 dimensions"),
        ("CAPLENS", first(lambda length: length + 1), "the stored length; number 0 is not"),
        ("CAPLENS", lambda path: path.write_text("{"), "CAPLENS_.* is not JSON"),
        ("CAPLENS", Path.unlink, "CAPLENS_.* not found: use files that were made together"),
    ],
)
def test_inconsistent_files_are_refused(authors_files, kind, damage, rule):
    damage(authors_files / f"TRAIN_{kind}_{NAME}.json")
    with pytest.raises((ValueError, FileNotFoundError), match=rule):
        AuthorsReader(authors_files, "train")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ({"<pad>": 0, "a": 1, "<unk>": 2, "<start>": 3}, "missing: .*<end>"),
        ({"<pad>": 0, "a": 2}, "the ids of a word map are 0 to 1"),
        (["a"], ""),
    ],
)
def test_invalid_word_map_is_refused(authors_files, content, rule):
    rewrite(authors_files / f"WORDMAP_{NAME}.json", lambda _: content)
    with pytest.raises(ValueError, match=f"WORDMAP_.* must hold a word map, word -> id: .*{rule}"):
        AuthorsReader(authors_files, "train")


@pytest.mark.parametrize("name", [f"WORDMAP_{NAME}.json", f"TRAIN_IMAGES_{NAME}.hdf5"])
def test_two_files_of_the_same_kind_are_refused(authors_files, name):
    shutil.copy(authors_files / name, authors_files / name.replace("SECOND", "THIRD"))
    with pytest.raises(ValueError, match=r"authors_files must hold one .*\*.*, got .*SECOND.*, .*THIRD"):
        AuthorsReader(authors_files, "train")


def test_images_of_another_form_are_refused(authors_files):
    path = authors_files / f"TRAIN_IMAGES_{NAME}.hdf5"
    whole = path.read_bytes()
    with h5py.File(path, "r+") as file:
        del file.attrs["captions_per_image"]
    with pytest.raises(ValueError, match=r"must hold images \(n, 4, 3, H, W\) uint8 and .*, got .* and None"):
        AuthorsReader(authors_files, "train")
    with h5py.File(path, "w") as file:
        file.attrs["captions_per_image"] = 5
        file["images"] = np.zeros((3, 2, 3, 16, 16), np.uint8)
    with pytest.raises(ValueError, match=r"must hold images .* got .*\(3, 2, 3, 16, 16\)"):
        AuthorsReader(authors_files, "train")
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="TRAIN_IMAGES_.* is not a complete HDF5 file"):
        AuthorsReader(authors_files, "train")


@pytest.fixture(scope="module")
def demo_authors_files(demo_input: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authors' files of the demo dataset."""
    folder = tmp_path_factory.mktemp("authors_files")
    return prepare(
        demo_input.parent / "dataset", folder / "set", "--format", "released", "--image_size", "32"
    )


@pytest.mark.slow
def test_training_and_evaluation_on_the_authors_files(demo_input, demo_authors_files, tmp_path, capsys):
    settings = tiny_settings(demo_authors_files, **{"train.epochs": 1})
    run = tmp_path / "run"
    train.main(["--config", str(CONFIGS / "second_cc.yaml"), *settings, "--run_dir", str(run)])
    assert "validation scores against the stored captions" in capsys.readouterr().err
    evaluation.main(["--checkpoint", str(run / "best.pt"), "--output", str(tmp_path / "alone")])
    printed = capsys.readouterr().out
    assert (
        "no human words, give their JSON with --data.annotations (ours, floor, floor_oracle, margin)"
        in printed
    )
    whole = ["--data.annotations", str(annotations(demo_input.parent / "dataset"))]
    evaluation.main(["--checkpoint", str(run / "best.pt"), "--output", str(tmp_path / "joined"), *whole])

    alone, joined = (
        json.loads((tmp_path / name / "scores.json").read_text()) for name in ("alone", "joined")
    )
    assert alone["ours"] is alone["floor"] is alone["margin"] is None
    assert set(alone["reasons"]) == {"ours", "floor", "floor_oracle", "margin"}
    assert alone["released"] == joined["released"]
    assert alone["released"]["all"]["s_m"]["value"] >= 0
    assert joined["reasons"] == {}
    assert joined["ours"]["all"]["pairs"] == alone["released"]["all"]["pairs"]

    captions, named = (
        json.loads((tmp_path / name / "captions.json").read_text()) for name in ("alone", "joined")
    )
    assert captions[2]["filename"] == "test_000002"
    assert captions[2]["references_are"] == "the stored captions"
    assert "references_are" not in named[2]
    assert [c["caption"] for c in captions] == [c["caption"] for c in named]


@pytest.mark.real
@pytest.mark.slow
def test_real_pairs(real_pairs, tmp_path):
    folder = prepare(real_pairs, tmp_path / "authors_files", "--format", "released", "--min_word_freq", "10")
    ids, splits = naive_set(real_pairs, threshold=10)
    for split, (views, captions, lengths) in splits.items():
        reader = AuthorsReader(folder, split.lower(), annotations(real_pairs))
        assert reader.vocabulary.to_word_map() == ids
        assert reader.tokens.reshape(-1, 52).tolist() == captions
        assert reader.lengths.flatten().tolist() == lengths
        for index, four in enumerate(views):
            np.testing.assert_array_equal(reader.views(index), four)
