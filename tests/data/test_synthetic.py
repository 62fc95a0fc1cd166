"""The synthetic demo set: layout, determinism, and maps and sentences that agree with the images."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from data.palette import SECOND
from data.sources import NO_CHANGE_SENTENCES, read_dataset
from data.synthetic import CHANGES, SyntheticPair, is_changed, make_pair, neighbour
from data.synthetic.captions import PLACES, Change, describe, place_name
from data.synthetic.conditions import ON_THE_LAND, ON_THE_SENSOR, photograph
from tools.make_demo_dataset import write_dataset

WHITE = (255, 255, 255)
BASE = dict(zip(SECOND.labels, (WHITE, *SECOND.colours), strict=True))
VEGETATION, GROUND = "low vegetation", "non-vegetated ground surface"
CLASSES_OF_USE = {  # of which classes the pixels of a use of the land are
    "meadow": {VEGETATION},
    "bareland": {GROUND},
    "lake": {"water"},
    "forest": {"tree"},
    "residential": {"building", GROUND, VEGETATION, "tree"},
    "hall": {"building", GROUND},
    "playground": {"playground"},
    "parking": {GROUND},
}
WORDS_OF_USE = {
    "meadow": {"grassland", "vegetation"},
    "bareland": {"bareland", "ground"},
    "lake": {"lake", "pond"},
    "forest": {"trees", "forest"},
    "residential": {"residential", "houses"},
    "hall": {"building", "factory"},
    "playground": {"playground", "sports"},
    "parking": {"parking"},
}
SIDES = {"top": {"top", "upper"}, "bottom": {"bottom", "lower"}, "left": {"left"}, "right": {"right"}}
PAIRS, SEED = 10, 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set on disk, rendered by two processes."""
    folder = tmp_path_factory.mktemp("demo") / "set"
    write_dataset(folder, PAIRS, SEED, workers=2)
    return folder


@pytest.fixture(scope="module")
def pairs() -> list[SyntheticPair]:
    return [make_pair(1, index) for index in range(16)]


@pytest.fixture(scope="module")
def changed(pairs: list[SyntheticPair]) -> list[SyntheticPair]:
    """The pairs with one changed area."""
    return [pair for pair in pairs if len(pair.changes) == 1]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def coloured(semantic: np.ndarray) -> np.ndarray:
    """A mask of the pixels where a map (H, W, 3) is not void."""
    return (semantic != WHITE).any(axis=-1)


def share(semantic: np.ndarray, names: set[str]) -> float:
    """The share of a map's coloured pixels that belong to the named classes."""
    pixels = semantic[coloured(semantic)]
    return sum((pixels == BASE[name]).all(axis=-1).sum() for name in names) / len(pixels)


def says(sentence: str, words: set[str]) -> bool:
    return not words.isdisjoint(sentence.split())


def test_layout_is_that_of_second_cc(dataset: Path) -> None:
    entries = json.loads((dataset / "SECOND-CC-AUG.json").read_text())["images"]
    assert [entry["split"] for entry in entries] == ["train"] * 7 + ["val"] + ["test"] * 2
    for entry in entries:
        assert entry.keys() == {"filename", "filepath", "split", "imgid", "changeflag", "sentences"}
        assert len(entry["sentences"]) == 5
        for sentence in entry["sentences"]:
            assert sentence["raw"] == " ".join(sentence["tokens"]) + " ."
        for folder in ("rgb/A", "rgb/B", "sem/A", "sem/B"):
            with Image.open(dataset / entry["filepath"] / folder / entry["filename"]) as picture:
                assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (256, 256))
    assert len(list(dataset.rglob("*.png"))) == 4 * PAIRS
    sentids = [sentence["sentid"] for entry in entries for sentence in entry["sentences"]]
    assert sentids == list(range(5 * PAIRS))


def test_dataset_can_be_read(dataset: Path) -> None:
    read = read_dataset(dataset).pairs
    assert [pair.changed for pair in read] == [is_changed(SEED, index) for index in range(PAIRS)]
    assert all(len(set(pair.captions)) == 5 and None not in pair.views for pair in read)


def test_files_do_not_depend_on_the_number_of_processes(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "again", PAIRS, SEED, workers=1)
    assert contents(tmp_path / "again") == contents(dataset)


def test_seed_changes_the_scene() -> None:
    assert (make_pair(1, 0).rgb_a != make_pair(2, 0).rgb_a).any()


def test_about_half_of_any_range_of_pairs_has_changed() -> None:
    flags = [is_changed(1, index) for index in range(600)]
    assert all(0.5 < np.mean(flags[start : start + 60]) < 0.62 for start in range(0, 600, 60))


def test_maps_have_base_colours_and_void_only(pairs: list[SyntheticPair]) -> None:
    for semantic in [pair.sem_a for pair in pairs] + [pair.sem_b for pair in pairs]:
        colours = np.unique(semantic @ [65536, 256, 1])
        assert {(code >> 16, code >> 8 & 255, code & 255) for code in colours.tolist()} <= set(BASE.values())


def test_maps_show_the_changed_pixels_of_both_dates(pairs: list[SyntheticPair]) -> None:
    for pair in pairs:
        differs = (pair.sem_a != pair.sem_b).any(axis=-1)
        assert (coloured(pair.sem_a) == differs).all()
        assert (coloured(pair.sem_b) == differs).all()
        assert differs.mean() > 0.07 if pair.changes else not differs.any()


def test_unchanged_pairs_show_the_same_land(pairs: list[SyntheticPair]) -> None:
    unchanged = [pair for pair in pairs if not pair.changes]
    assert len(unchanged) > 4
    for pair in unchanged:
        assert pair.sentences == NO_CHANGE_SENTENCES[:5]
        blocks = [rgb.mean(-1).reshape(32, 8, 32, 8).mean((1, 3)) for rgb in (pair.rgb_a, pair.rgb_b)]
        assert np.corrcoef(blocks[0].ravel(), blocks[1].ravel())[0, 1] > 0.8
    assert any((pair.rgb_a != pair.rgb_b).any() for pair in unchanged)


def test_maps_show_the_uses_of_the_land(changed: list[SyntheticPair]) -> None:
    for pair in changed:
        (change,) = pair.changes
        assert share(pair.sem_a, CLASSES_OF_USE[change.before]) > 0.95
        assert share(pair.sem_b, CLASSES_OF_USE[change.after]) > 0.95
        for semantic, use in ((pair.sem_a, change.before), (pair.sem_b, change.after)):
            if use in ("residential", "hall"):
                assert share(semantic, {"building"}) > 0.25


def test_sentences_name_the_uses_of_the_land(pairs: list[SyntheticPair]) -> None:
    for pair in pairs:
        for change in pair.changes:
            for use in (change.before, change.after):
                assert all(says(sentence, WORDS_OF_USE[use]) for sentence in pair.sentences)


def test_sentences_name_the_place_of_the_coloured_pixels(changed: list[SyntheticPair]) -> None:
    for pair in changed:
        rows, columns = np.nonzero(coloured(pair.sem_b))
        y, x = rows.mean() / 256, columns.mean() / 256
        true = {"top": y < 1 / 3, "bottom": y > 2 / 3, "left": x < 1 / 3, "right": x > 2 / 3}
        for sentence in pair.sentences:
            assert {side: says(sentence, words) for side, words in SIDES.items()} == true


def test_every_place_has_its_name() -> None:
    names = set()
    for row in (10, 120, 240):
        for column in (10, 120, 240):
            mask = np.zeros((256, 256), bool)
            mask[row, column] = True
            names.add(place_name(mask))
    assert names == set(PLACES)


def test_only_a_line_along_the_area_is_its_neighbour() -> None:
    area, near, far = (np.zeros((256, 256)) for _ in range(3))
    area[100:150, 100:150], near[155:165], far[200:210] = 1, 1, 1
    assert neighbour(area, {"road": far, "river": near}) == "river"
    assert neighbour(area, {"road": far}) is None
    assert neighbour(area, {}) is None


def test_sentences_name_the_neighbour_and_agree_in_number() -> None:
    change = Change("forest", "residential", "top left", "road")
    sentences = {text for seed in range(20) for text in describe([change], np.random.default_rng(seed))}
    assert any("corner near the road" in text for text in sentences)
    assert "the trees in the top left corner are replaced by a residential area" in sentences
    assert "the forest in the top left corner is replaced by some houses" in sentences
    alone = Change("forest", "residential", "top left", None)
    assert not any("road" in text for text in describe([alone], np.random.default_rng(0)))


def test_five_sentences_differ() -> None:
    rng = np.random.default_rng(0)
    for before, after in CHANGES:
        change = Change(before, after, "middle", None)
        assert len(set(describe([change], rng))) == len(set(describe([change, change], rng))) == 5


@pytest.mark.parametrize("name", [*ON_THE_LAND, *ON_THE_SENSOR])
def test_conditions_change_images_but_not_maps(name: str) -> None:
    canvas_rgb = make_pair(1, 0).rgb_a.astype(np.float32)
    classes = np.full((256, 256), 1, np.uint8)  # low vegetation
    plain = photograph(canvas_rgb, classes, [], np.random.default_rng(0))
    assert (plain == canvas_rgb).all()
    other = photograph(canvas_rgb, classes, [name], np.random.default_rng(0))
    assert other.dtype == np.uint8
    assert 0 < np.abs(other.astype(int) - plain).mean() < 40


def mean_score(references: list[list[str]], captions: list[str]) -> float:
    """The mean of BLEU-4, ROUGE-L and CIDEr, in per cent."""
    truth, guess = dict(enumerate(references)), {i: [text] for i, text in enumerate(captions)}
    bleu_4 = Bleu(4).compute_score(truth, guess, verbose=0)[0][3]
    rouge, cider = (scorer.compute_score(truth, guess)[0] for scorer in (Rouge(), Cider()))
    return 100 / 3 * (bleu_4 + rouge + cider)


def test_blind_captions_stay_below_the_constant_one_and_seeing_ones_far_above() -> None:
    rng = np.random.default_rng(0)
    references = []
    for index in range(200):  # sentences alone: what is drawn has no say here
        uses, position = CHANGES[rng.integers(len(CHANGES))], list(PLACES)[rng.integers(len(PLACES))]
        changes = [Change(*uses, position, None)]
        references.append(describe(changes, rng) if is_changed(1, index) else list(NO_CHANGE_SENTENCES[:5]))
    constant = max(mean_score(references, [text] * 200) for text in NO_CHANGE_SENTENCES[:5])
    order = rng.permutation(200)
    shuffled = mean_score(references, [references[number][0] for number in order])
    others = [texts[1:] if is_changed(1, index) else texts for index, texts in enumerate(references)]
    human = mean_score(others, [texts[0] for texts in references])
    assert shuffled < constant < human - 40


@pytest.mark.parametrize(
    ("pairs", "seed", "message"),
    [(9, 0, "--pairs must be at least 10, got 9"), (10, -1, "--seed must be 0 or more, got -1")],
)
def test_bad_numbers_are_refused(tmp_path: Path, pairs: int, seed: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "set", pairs, seed, workers=1)
    assert not list(tmp_path.iterdir())


def test_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[2] / "tools" / "make_demo_dataset.py"
    options = ["--output", str(tmp_path), "--pairs", "10", "--seed", "0"]
    done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("make_demo_dataset.py: error: --output must be a new folder")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
