"""The file of a split: round trip, several processes, and errors for invalid files."""

import json
import lzma
import multiprocessing
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.hdf5 import SplitReader, split_path, vocabulary_path, write_split
from data.maps.settings import MapSettings
from data.palette import SECOND, Palette
from data.sources import NO_CHANGE_SENTENCES, Pair
from data.vocabulary import Vocabulary

CAPTIONS = [["a house appears", "a new house", "ein Haus, größer"], ["no change"]]
VIEWS = np.random.default_rng(0).integers(0, 256, (2, 4, 3, 6, 5), dtype=np.uint8)
TOKENS = np.arange(2 * 5 * 9).reshape(2, 5, 9) % 7
LENGTHS = np.arange(10).reshape(2, 5)
VOCABULARY = Vocabulary.build([["a", "house", "appears"]], min_word_freq=0)


def pair(number: int, captions: list[str]) -> Pair:
    return Pair(
        filename=f"{number}.png",
        split="train",
        views=(None, None, None, None),
        captions=tuple(tuple(caption.split()) for caption in captions),
        raw=tuple(f" {caption} ." for caption in captions),
        changed=number == 0,
        augmented=number == 1,
    )


def write(folder: Path, **changes) -> Path:
    """Write a train split of two pairs and its vocabulary; `changes` override arguments."""
    content = {
        "pairs": [pair(number, captions) for number, captions in enumerate(CAPTIONS)],
        "views": iter(VIEWS),
        "image_size": (6, 5),
        "tokens": TOKENS,
        "lengths": LENGTHS,
        "vocabulary": VOCABULARY,
        "settings": {"max_length": 7},
        "no_change": ["nichts Neues", "the same"],
    }
    folder.mkdir(exist_ok=True)
    path = split_path(folder, "train")
    write_split(folder, "train", **{**content, **changes})
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return write(tmp_path)


def test_round_trip(train):
    reader = SplitReader(train)
    assert len(reader) == 2
    assert reader.image_size == (6, 5)
    for index in range(2):
        assert (reader.views(index) == VIEWS[index]).all()
        assert reader.views(index).dtype == np.uint8
    assert (reader.tokens == TOKENS).all()
    assert (reader.lengths == LENGTHS).all()
    assert reader.tokens.dtype == reader.lengths.dtype == np.int64
    assert reader.references == CAPTIONS
    for raw, captions in zip(reader.raw, CAPTIONS, strict=True):
        assert raw == [f" {caption} ." for caption in captions]
    assert reader.changed.tolist() == [True, False]
    assert reader.augmented.tolist() == [False, True]
    assert reader.no_change == ("nichts Neues", "the same")
    assert reader.filenames == ["0.png", "1.png"]
    assert reader.vocabulary.words == VOCABULARY.words


def test_sources_are_given_or_derived_from_the_names(tmp_path):
    names = [
        ("5_0_256.png", None),
        ("5_0_256_random_augment_1.png", None),
        ("a.png", "tile 7"),
        ("b.png", None),
    ]
    pairs = [replace(pair(0, CAPTIONS[0]), filename=name, source=source) for name, source in names]
    content = {
        "pairs": pairs,
        "tokens": TOKENS[[0] * 4],
        "lengths": LENGTHS[[0] * 4],
        "views": VIEWS[[0] * 4],
    }
    path = write(tmp_path, **content)
    assert SplitReader(path).sources == ["5", "5", "tile 7", "b"]
    with h5py.File(path, "r+") as file:
        del file["source"]  # a file of an earlier version
    assert SplitReader(path).sources == ["5", "5", "a", "b"]


def test_file_stores_its_settings(train):
    with h5py.File(train) as file:
        assert file.attrs["format"] == "mmodalcc 2"
        read_maps = {"mask_class": None, "map_indices": False, "mask_unchanged": False}
        assert json.loads(file.attrs["made_with"]) == {"max_length": 7, **read_maps}
        assert Palette.from_json(file.attrs["palette"]) == SECOND
        assert file["rgb"].chunks == file["sem"].chunks == (1, 2, 3, 6, 5)
        assert file["maps"].chunks == (1, 6, 5)
        assert [file[name].compression for name in ("rgb", "sem", "maps")] == [None, "gzip", "gzip"]
        assert file["tokens"].dtype == np.int32


def test_palette_is_stored_and_part_of_the_fingerprint(train, tmp_path):
    readers = []
    for names in (("a", "b"), ("a", "c")):
        maps = MapSettings(Palette(names, ((1, 2, 3), (3, 2, 1))), "a", mask_unchanged=True)
        readers.append(SplitReader(write(tmp_path / names[1], maps=maps)))
        assert readers[-1].maps == maps
    prints = [reader.fingerprint for reader in (*readers, SplitReader(train))]
    assert len(set(prints)) == 3
    with h5py.File(train, "r+") as file:
        del file.attrs["palette"]  # a file of an earlier version
        file.attrs["made_with"] = json.dumps({"mask_class": "water"})
    assert SplitReader(train).maps == MapSettings(mask_class="water")


def test_invalid_stored_palette_is_refused(train):
    with h5py.File(train, "r+") as file:
        file.attrs["palette"] = "{}"
    with pytest.raises(
        ValueError, match=r"train.hdf5: its palette is not valid .*: run tools/create_input_files"
    ):
        SplitReader(train)


def test_maps_in_the_palette_are_stored_in_one_byte_per_pixel(tmp_path):
    views = VIEWS.copy()
    views[1, 2:] = 0
    views[1, 3, 0, :3] = 128  # a building
    path = write(tmp_path, views=iter(views))
    reader = SplitReader(path)
    assert [reader.packed_views(index).maps.ndim for index in range(2)] == [4, 2]
    assert (reader.views(0) == views[0]).all()
    assert (reader.views(1) == views[1]).all()
    assert [reader.all_packed(rows) for rows in ([0, 1], [1])] == [False, True]


def test_a_file_of_the_first_format_loads(tmp_path, train):
    """tests/samples/train_d76a1af.hdf5.xz: VIEWS, but for the second pair's maps, void with a building."""
    sample = Path(__file__).parents[1] / "samples" / "train_d76a1af.hdf5.xz"
    train.write_bytes(lzma.decompress(sample.read_bytes()))
    reader = SplitReader(train)
    expected = VIEWS.copy()
    expected[1, 2:] = 0
    expected[1, 3, 0, :3] = 128
    assert (reader.views(0) == expected[0]).all()
    assert (reader.views(1) == expected[1]).all()
    assert not reader.all_packed([1]), "its maps are not known before they are read"
    assert SplitReader(write(tmp_path / "new", views=iter(expected))).fingerprint == reader.fingerprint


def test_fingerprint_depends_on_the_content(tmp_path, train):
    fingerprint = SplitReader(train).fingerprint
    other_views = VIEWS.copy()
    other_views[1, 3, 2, 5, 4] ^= 1
    renamed = [pair(number, CAPTIONS[0]) for number in range(2)]
    for index, change in enumerate(
        [{"views": iter(other_views)}, {"tokens": TOKENS + 1}, {"pairs": renamed}]
    ):
        assert SplitReader(write(tmp_path / str(index), **change)).fingerprint != fingerprint
    assert SplitReader(write(tmp_path / "same", settings={})).fingerprint == fingerprint


def send_views(reader: SplitReader, results: multiprocessing.Queue) -> None:
    results.put([reader.views(index) for index in range(len(reader))])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("opened_before", [False, True])
def test_all_processes_read_the_same_data(train, method, opened_before):
    reader = SplitReader(train)
    if opened_before:
        reader.views(0)
    context = multiprocessing.get_context(method)
    results = context.Queue()
    workers = [context.Process(target=send_views, args=(reader, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    actual = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert all((views == VIEWS).all() for views in actual)
    assert (reader.views(1) == VIEWS[1]).all(), "the parent's own handle still works"


def test_no_open_handle_is_pickled(train):
    reader = SplitReader(train)
    reader.views(0)
    assert (pickle.loads(pickle.dumps(reader)).views(1) == VIEWS[1]).all()


def test_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"test\.hdf5 not found: run tools/create_input_files\.py first"
    ):
        SplitReader(split_path(tmp_path, "test"))


@pytest.mark.parametrize(
    ("split", "remedy"),
    [
        ("val", "give some pairs the split val, or prepare the data set with --val_share 0.1 --force"),
        ("test", "give some pairs the split test, or evaluate with eval.py --split train"),
    ],
)
def test_a_split_that_the_data_set_lacks_is_named(train, split, remedy):
    with pytest.raises(FileNotFoundError) as error:
        SplitReader(split_path(train.parent, split))
    assert str(error.value).endswith(
        f"{split}.hdf5 not found: the data set has no {split} pairs, only train: {remedy}"
    )


def test_missing_vocabulary_names_the_remedy(train):
    vocabulary_path(train.parent).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"vocabulary\.json not found: run tools/create_input_files\.py"
    ):
        SplitReader(train)


def test_different_vocabulary_is_refused(train):
    Vocabulary.build([["other", "words"]], 0).save(vocabulary_path(train.parent))
    with pytest.raises(ValueError, match=r"train\.hdf5 was made with another vocabulary\.json"):
        SplitReader(train)


@pytest.mark.parametrize("file_format", ["mmodalcc 0", None])
def test_another_format_is_refused(train, file_format):
    with h5py.File(train, "r+") as file:
        del file.attrs["format"]
        if file_format:
            file.attrs["format"] = file_format
    with pytest.raises(ValueError, match=f"must have format 'mmodalcc 2', got '{file_format or 'none'}'"):
        SplitReader(train)


@pytest.mark.parametrize("attribute", ["made_with", "no_change"])
@pytest.mark.parametrize("text", ["[" * 20_000, "{"])
def test_an_attribute_that_is_not_json_is_refused(train, attribute, text):
    with h5py.File(train, "r+") as file:
        file.attrs[attribute] = text
    with pytest.raises(
        ValueError, match=r"train\.hdf5 is not JSON .*: run tools/create_input_files\.py --force"
    ):
        SplitReader(train)


@pytest.mark.parametrize("part", ["tokens", "rgb", "packed"])
def test_a_file_without_a_part_is_refused(train, part):
    with h5py.File(train, "r+") as file:
        del file[part]
    with pytest.raises(
        ValueError, match=r"train\.hdf5 is not complete: run tools/create_input_files\.py --force"
    ):
        SplitReader(train)


@pytest.mark.parametrize("length", [0, 100, -100])
def test_a_damaged_file_is_refused(train, length):
    train.write_bytes(train.read_bytes()[:length])
    with pytest.raises(
        ValueError, match=r"train\.hdf5 is not a complete HDF5 file: run tools/create_input_files\.py"
    ):
        SplitReader(train)


def test_files_of_earlier_versions_use_the_default_no_change_sentences(train):
    with h5py.File(train, "r+") as file:
        del file.attrs["no_change"]
    assert SplitReader(train).no_change == NO_CHANGE_SENTENCES


def test_the_fingerprint_does_not_depend_on_sources(tmp_path):
    content = {"tokens": TOKENS[:1], "lengths": LENGTHS[:1], "views": VIEWS[:1]}
    fingerprints = set()
    for source in ("tile 1", "tile 2"):
        folder = tmp_path / source
        folder.mkdir()
        path = write(folder, pairs=[replace(pair(0, CAPTIONS[0]), source=source)], **content)
        fingerprints.add(SplitReader(path).fingerprint)
    assert len(fingerprints) == 1
