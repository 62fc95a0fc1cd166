"""Preparation end to end: every quirk of the data, every refusal, and nothing half-written."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import pytest

from data.hdf5 import SplitReader, split_path
from data.vocabulary import Vocabulary
from data.workers import in_order
from tests.conftest import entry, save
from tests.helpers.tiny import save_tiny_detector
from tools.create_input_files import main
from tools.engine.checkpoint import load_checkpoint

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "create_input_files.py"
FILES = ["test.hdf5", "train.hdf5", "val.hdf5", "vocabulary.json"]


def prepare(dataset: Path, *options: str) -> Path:
    """Run preparation with small images and every word known; the output folder stands beside the dataset."""
    output = dataset.parent / "created"
    fixed = ["--dataset_dir", str(dataset), "--output_dir", str(output), "--workers", "2"]
    main([*fixed, "--min_word_freq", "0", "--image_size", "16", *options])
    return output


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spoken(reader: SplitReader, index: int) -> list[str]:
    """The captions that a pair's tokens stand for."""
    return [reader.vocabulary.decode(tokens) for tokens in reader.tokens[index]]


def flat(*channels: int) -> np.ndarray:
    """A picture of one colour."""
    return np.full((16, 16, len(channels)), channels, dtype=np.uint8)


def colours(views: np.ndarray) -> set[tuple[int, int, int]]:
    """The colours that stand in views (n, 3, H, W)."""
    return {tuple(pixel) for pixel in views.transpose(0, 2, 3, 1).reshape(-1, 3).tolist()}


def command_line(*options: object) -> subprocess.CompletedProcess:
    words = [sys.executable, SCRIPT, *options]
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


def test_a_folder_becomes_one_file_per_split_and_a_vocabulary(second_cc_folder):
    root = second_cc_folder()
    output = prepare(root)
    assert sorted(path.name for path in output.iterdir()) == FILES
    train, test = (SplitReader(split_path(output, split)) for split in ("train", "test"))
    assert train.filenames == ["00001.png", "00002.png", "00003.png"]
    assert test.changed.tolist() == [True, False]
    assert "barn" not in train.vocabulary
    for index, date in enumerate("AB"):
        image = iio.imread(root / "train" / "rgb" / date / "00003.png")
        assert (train.views(2)[index] == image.transpose(2, 0, 1)).all()
    assert not train.views(2)[2].any(), "white is black"
    assert train.views(2)[3].reshape(3, -1).max(axis=1).tolist() == [128, 0, 0]


def test_captions_are_repeated_and_references_are_not(second_cc_folder):
    train = SplitReader(split_path(prepare(second_cc_folder()), "train"))
    first, second, third = train.references[0]
    assert spoken(train, 0) == [first, second, third, first, second]
    assert train.lengths[0].tolist() == [len(caption.split()) + 2 for caption in spoken(train, 0)]
    assert train.tokens.shape == (3, 5, 52)


def test_settings_of_captions(second_cc_folder):
    output = prepare(second_cc_folder(), "--captions_per_image", "2", "--max_length", "8")
    train = SplitReader(split_path(output, "train"))
    assert train.tokens.shape == (3, 2, 10)
    assert spoken(train, 0) == train.references[0][:2]


def test_long_captions_are_not_encoded_but_stay_references(second_cc_folder, capsys):
    long, short = "a house appears in the corner", "a house appears"
    root = second_cc_folder([entry("1.png", "train", long, short)])
    train = SplitReader(split_path(prepare(root, "--max_length", "4"), "train"))
    assert spoken(train, 0) == [short] * 5
    assert train.references == [[long, short]]
    warnings = capsys.readouterr().err
    assert (
        "captions of more than 4 words, which are not encoded: 1 (train 1.png): raise --max_len" in warnings
    )


def test_a_pair_whose_captions_are_all_too_long_is_an_error(second_cc_folder):
    root = second_cc_folder([entry("1.png", "val", "a house appears in the corner")])
    with pytest.raises(
        ValueError, match=r"val 1\.png: .* at most 4 words, the shortest has 6: raise --max_length"
    ):
        prepare(root, "--max_length", "4")


@pytest.fixture
def quirky_folder(second_cc_folder) -> Path:
    """A folder with everything that is odd about real data and yet allowed."""
    house = "a house appears"
    root = second_cc_folder(
        [
            entry("00001_0_0.png", "train", house, imgid=7),
            entry("00001_0_0_random_augment_1.png", "train", house),
            entry("restval.png", "restval", "a barn appears", filepath="val"),
            entry("seven.png", "train", *[f"{house} {number}" for number in range(7)]),
            entry("raw.png", "train", sentences=[{"raw": "  A pool, built !"}, {"raw": " . ", "tokens": []}]),
            entry("flagless.png", "train", "there is no difference", changeflag=None),
            entry("large.png", "val", house),
            entry("long.png", "val", house, "very " * 50 + "long"),
            entry("odd.png", "test", house),
            entry("00001_0_256.png", "test", house),
        ]
    )
    noise = np.random.default_rng(0).integers(0, 256, (40, 24, 3), dtype=np.uint8)
    chequered = np.where(
        np.indices((40, 24)).sum(axis=0)[..., None] % 7 < 4, np.uint8([128, 0, 0]), np.uint8(255)
    )
    for date in "AB":
        save(root / "train/sem" / date / "00001_0_0_random_augment_1.png", flat(80, 208, 80))
        save(root / "val/rgb" / date / "large.png", noise)
        save(root / "val/sem" / date / "large.png", chequered)
        save(root / "test/rgb" / date / "odd.png", flat(90)[..., 0])
        save(root / "test/sem" / date / "odd.png", flat(200, 30, 200, 100))
    shutil.copy(root / "train/rgb/A/raw.png", root / "test/rgb/B/00001_0_256.png")
    return root


def test_folder_with_many_irregularities(quirky_folder):
    output = prepare(quirky_folder)
    train, val, test = (SplitReader(split_path(output, split)) for split in ("train", "val", "test"))
    assert train.filenames[2] == "restval.png"
    assert train.augmented.tolist() == [False, True, False, False, False, False]
    assert train.changed.tolist() == [True, True, True, True, True, False]
    assert colours(train.views(1)[2:]) == {(80, 208, 80)}
    assert spoken(train, 3) == train.references[3][:5]
    assert len(train.references[3]) == 7
    assert train.references[4] == ["a pool built"]
    assert train.raw[4] == ["  A pool, built !"]
    assert val.views(0).shape == (4, 3, 16, 16)
    assert colours(val.views(0)[2:]) == {(0, 0, 0), (128, 0, 0)}
    assert spoken(val, 1) == ["a house appears"] * 5
    assert colours(test.views(0)[:2]) == {(90, 90, 90)}
    assert colours(test.views(0)[2:]) == {(200, 30, 200)}


def test_irregularities_are_reported(quirky_folder, capsys):
    prepare(quirky_folder)
    captured = capsys.readouterr()
    facts = captured.out.splitlines()
    assert "train: 6 pairs (1 augmented), 5 changed, 1 unchanged" in facts
    assert "captions per pair (number of pairs): 1 (8), 2 (1), 7 (1)" in facts
    sizes = "16 x 16 (9), 40 x 24 (1)"
    assert f"image sizes, rows x columns (number of pairs): {sizes}" in facts
    overlap = "in two splits: identical images: 1, source images: 1, augmented copies of a pair: 0; pairs of"
    assert any(line.startswith(overlap) for line in facts)
    assert any(line.startswith("few pairs: train 5, val 2, test 2: start from") for line in facts)
    heading, *warnings = captured.err.splitlines()
    assert heading == f"warnings: {len(warnings)}"
    for problem in (
        "pairs resized to 16 x 16: 1; rows x columns (pairs): 40 x 24 (1), which changes their aspect ratio",
        "pairs without `changeflag`: 1, 1 of them count as unchanged: without",
        "map colours outside the palette: 1",
        "identical images in two splits: 1",
        "source images with tiles in two splits: 1",
        "captions of more than 50 words, which are not encoded: 1",
        "captions beyond the first 5 of a pair, which are not encoded: 2: give --captions_per_image 7",
        "sentences without words, which are dropped: 1",
    ):
        assert any(line.startswith(f"- {problem}") for line in warnings), problem


@pytest.fixture
def masked_folder(second_cc_folder) -> Path:
    """The usual folder with 0/255 masks of what appeared, for the second date alone."""
    root = second_cc_folder()
    for path in root.glob("*/sem/A"):
        shutil.rmtree(path)
    for path in root.glob("*/sem/B/*.png"):
        save(path, (iio.imread(path)[..., 1] == 0).astype(np.uint8) * 255)
    return root


def test_masks_are_refused_without_a_class_and_painted_with_one(masked_folder, capsys):
    with pytest.raises(ValueError, match=r"sem/B/0000\d\.png is a mask of 0 and 255, .*--mask_class"):
        prepare(masked_folder)
    assert not (masked_folder.parent / "created").exists()
    output = prepare(masked_folder, "--mask_class", "water")
    facts = capsys.readouterr().out.splitlines()
    assert "changed pairs whose maps are both void: 0 of 4" in facts
    assert "train: pairs with a map of the second date only (the first is void): 3" in facts
    reader = SplitReader(split_path(output, "train"))
    assert reader.maps.mask_class == "water"
    assert colours(reader.views(0)[3:]) == {(0, 0, 0), (0, 0, 255)}
    assert colours(reader.views(0)[2:3]) == {(0, 0, 0)}


def test_maps_in_a_folder_in_capitals_are_found(second_cc_folder, capsys):
    root = second_cc_folder()
    (root / "test" / "sem").rename(root / "test" / "SEM")
    reader = SplitReader(split_path(prepare(root), "test"))
    assert colours(reader.views(0)[3:]) == {(0, 0, 0), (128, 0, 0)}
    folders = "2 (test/SEM/A for test/sem/A; test/SEM/B for test/sem/B)"
    assert f"- folders found under another name: {folders}: " in capsys.readouterr().err


def test_layout_is_the_first_fact(second_cc_folder, capsys):
    prepare(second_cc_folder())
    first = capsys.readouterr().out.splitlines()[0]
    folders = "the folders rgb/A and rgb/B of SECOND-CC, maps in sem/A and sem/B"
    assert first == f"layout: LEVIR-CC's JSON (SECOND-CC-AUG.json), images in {folders}"


def test_a_share_of_the_training_pairs_becomes_the_missing_val_split(second_cc_folder, capsys):
    entries = [entry(f"{number}.png", "train", "a house appears") for number in range(10)]
    root = second_cc_folder(entries)
    prepare(root)
    assert (
        "splits without pairs: val, test: training needs train and val (--val_share 0.1"
        in capsys.readouterr().err
    )
    output = prepare(root, "--val_share", "0.2", "--force")
    train, val = (SplitReader(split_path(output, split)) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 2)
    with h5py.File(split_path(output, "val")) as file:
        assert json.loads(file.attrs["made_with"])["val_share"] == 0.2


def test_test_pairs_without_captions_are_left_out_with_a_warning(second_cc_folder, capsys):
    entries = [entry("1.png", "train", "a house"), entry("2.png", "test"), entry("3.png", "test", "a barn")]
    output = prepare(second_cc_folder(entries))
    assert SplitReader(split_path(output, "test")).filenames == ["3.png"]
    warnings = capsys.readouterr().err
    expected = "test pairs without captions, which are left out: 1 (2.png): caption.py --pairs captions them"
    assert f"- {expected}" in warnings


def test_masks_of_whu_cdc_are_buildings(tmp_path):
    root = tmp_path / "whu_CDC_dataset"
    for kind, image in (("A", 50), ("B", 60), ("label", 255)):
        pixels = np.full((16, 16), image, dtype=np.uint8)
        pixels[:8] = 0
        save(root / "images" / "train" / kind / "train_000001.tif", pixels)
    item = {"filename": "train_000001.png", "filepath": "train", "sentences": [{"raw": "A house ."}]}
    (root / "whuCCcaptions.json").write_text(json.dumps({"images": [item]}))
    reader = SplitReader(split_path(prepare(root), "train"))
    assert colours(reader.views(0)[3:]) == {(0, 0, 0), (128, 0, 0)}
    assert reader.maps.mask_class == "building"


def test_maps_of_only_the_first_date_are_refused(second_cc_folder):
    root = second_cc_folder()
    shutil.rmtree(root / "val" / "sem" / "B")
    with pytest.raises(ValueError, match=r"sem/B not found, .*val/sem holds A: maps belong in sem/A"):
        prepare(root)


NOISY = """
import resource, sys
from pathlib import Path
import h5py
import imageio.v3 as iio
import numpy as np
from tools.create_input_files import main
for path in Path(sys.argv[1]).glob("*/sem/*/*.png"):
    iio.imwrite(path, np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
main(["--dataset_dir", sys.argv[1], "--output_dir", sys.argv[1] + "/created", "--workers", "1"])
for line in open("/proc/self/status"):  # getrusage of oneself tells what the parent process had before
    if line.startswith("VmHWM"):
        print("peak", line.split()[1])
print("peak", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_memory_is_bounded_with_noise_maps(second_cc_folder):
    entries = [entry(f"{number:05}.png", "train", "a house appears") for number in range(40)]
    root = second_cc_folder(entries, size=256)
    words = [sys.executable, "-c", NOISY, str(root)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=SCRIPT.parents[1])
    peaks = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak")]
    assert len(peaks) == 2, done.stderr
    assert max(peaks) < 300_000, "kB"
    assert re.search(r"map colours outside the palette: at least \d+, in some maps 32 or more", done.stderr)
    assert "pairs with a map in none of the classes' colours: 40" in done.stderr


def test_missing_maps_are_prepared_as_void(second_cc_folder, capsys):
    reader = SplitReader(split_path(prepare(second_cc_folder(with_maps=False)), "train"))
    assert not any(reader.views(index)[2:].any() for index in range(len(reader)))
    assert "train: pairs without maps (both maps are void): 3" in capsys.readouterr().out


def test_folder_without_train_split_can_be_evaluated(second_cc_folder, capsys):
    output = prepare(second_cc_folder([entry("1.png", "test", "a house appears")]))
    assert sorted(path.name for path in output.iterdir()) == ["test.hdf5", "vocabulary.json"]
    test = SplitReader(split_path(output, "test"))
    assert len(test.vocabulary) == 4
    assert test.references == [["a house appears"]]
    warnings = capsys.readouterr().err
    assert "unknown words: test 100.0% (a 1; house 1; appears 1): give --vocabulary" in warnings
    assert "splits without pairs: train, val: training needs train and val" in warnings


def test_levir_mci_layout(tmp_path):
    label = np.zeros((16, 16), dtype=np.uint8)
    label[:8], label[8:12] = 255, 128
    home = tmp_path / "Levir-MCI-dataset" / "images" / "train"
    for kind, image in (("A", label // 2), ("B", label // 3), ("label", label)):
        save(home / kind / "train_000001.png", image)
    item = {
        "filename": "train_000001.png",
        "split": "train",
        "sentences": [{"tokens": ["a", "house"], "raw": "a house ."}],
    }
    (tmp_path / "Levir-MCI-dataset" / "LevirCCcaptions.json").write_text(json.dumps({"images": [item]}))

    views = SplitReader(split_path(prepare(tmp_path / "Levir-MCI-dataset"), "train")).views(0)

    assert not views[2].any()
    assert views[3][:, [0, 8, 12], 0].T.tolist() == [[128, 0, 0], [128, 128, 128], [0, 0, 0]]


def test_authors_files_replace_ours_completely(second_cc_folder, capsys):
    root = second_cc_folder()
    output = prepare(root)
    with pytest.raises(ValueError, match=r"found train\.hdf5, .*vocabulary\.json: --force replaces them"):
        prepare(root, "--format", "released")
    capsys.readouterr()
    prepare(root, "--format", "released", "--force")
    name = "SECOND_CC_5_cap_per_img_0_min_word_freq"
    kinds = [("IMAGES", "hdf5"), ("CAPTIONS", "json"), ("CAPLENS", "json")]
    expected = {f"{split}_{kind}_{name}.{end}" for split in ("TRAIN", "VAL", "TEST") for kind, end in kinds}
    assert {path.name for path in output.iterdir()} == {*expected, f"WORDMAP_{name}.json"}
    assert f"wrote {output}/TRAIN_IMAGES_{name}.hdf5: " in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"found TRAIN_IMAGES_.*: --force replaces them"):
        prepare(root)
    prepare(root, "--force")
    assert sorted(path.name for path in output.iterdir()) == FILES


def test_authors_files_leave_out_long_pairs_with_a_remark(second_cc_folder, capsys):
    long = "a house appears in the corner"
    root = second_cc_folder([entry("1.png", "train", "a house"), entry("2.png", "val", long, f"now {long}")])
    output = prepare(root, "--format", "released", "--max_length", "4", "--captions_per_image", "3")
    assert sorted(path.name.partition("_SECOND")[0] for path in output.iterdir()) == [
        "TRAIN_CAPLENS",
        "TRAIN_CAPTIONS",
        "TRAIN_IMAGES",
        "WORDMAP",
    ]
    captured = capsys.readouterr()
    facts = captured.out.splitlines()
    left_out = "pairs left out because all their captions have more than 4 words: 1 (val 2.png): raise --max"
    assert left_out in captured.err
    assert "vocabulary: 11 entries including the four special tokens, built from all splits" in facts


def test_authors_files_without_pairs_are_an_error(second_cc_folder):
    root = second_cc_folder([entry("1.png", "val", "a house appears in the corner")])
    with pytest.raises(ValueError, match=r"val 1\.png: .* at most 4 words, .*: raise --max_length"):
        prepare(root, "--max_length", "4", "--format", "released")


def test_the_vocabulary_counts_train_or_all_splits(second_cc_folder, capsys):
    root = second_cc_folder()
    words = SplitReader(split_path(prepare(root, "--vocabulary_splits", "all"), "train")).vocabulary
    assert "barn" in words
    assert "built from all splits" in capsys.readouterr().out
    prepare(root, "--format", "released", "--vocabulary_splits", "train", "--force")
    assert "built from train" in capsys.readouterr().out


def test_existing_output_is_refused_before_anything_else(tmp_path, second_cc_folder):
    output = prepare(second_cc_folder())
    before = content(output)
    with pytest.raises(
        ValueError, match=r"created must not hold input files, found .*: --force replaces them"
    ):
        prepare(tmp_path / "nowhere")
    assert content(output) == before


def test_force_replaces_everything_and_leaves_no_stale_split(second_cc_folder):
    output = prepare(second_cc_folder())
    (output / "notes.txt").write_text("mine")
    prepare(second_cc_folder([entry("9.png", "train", "a pool appears")], name="smaller"), "--force")
    assert sorted(path.name for path in output.iterdir()) == ["notes.txt", "train.hdf5", "vocabulary.json"]
    assert SplitReader(split_path(output, "train")).filenames == ["9.png"]


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("form", ["ours", "released"])
def test_a_failure_leaves_everything_as_it_was(second_cc_folder, existing, form):
    root = second_cc_folder()
    output = root.parent / "created"
    if existing:
        prepare(root)
    broken = root / "test" / "rgb" / "B" / "00006.png"
    broken.write_bytes(broken.read_bytes()[:300])
    before = content(root.parent)
    with pytest.raises(ValueError, match=r"00006\.png cannot be read as an image"):
        prepare(root, "--force", "--format", form)
    assert content(root.parent) == before
    assert output.exists() == existing


def test_files_of_a_killed_run_are_removed(second_cc_folder):
    root = second_cc_folder()
    save(root.parent / "created" / ".incomplete" / "train.png", flat(0, 0, 0))
    assert sorted(path.name for path in prepare(root).iterdir()) == FILES


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_files_do_not_depend_on_the_processes(second_cc_folder, method):
    root = second_cc_folder()
    output = prepare(root, "--workers", "1")
    fingerprints = [SplitReader(split_path(output, split)).fingerprint for split in ("train", "val", "test")]
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        prepare(root, "--force", "--workers", "3")
    finally:
        multiprocessing.set_start_method(usual, force=True)
    again = [SplitReader(split_path(output, split)).fingerprint for split in ("train", "val", "test")]
    assert again == fingerprints


def test_results_are_in_order_and_few_are_pending():
    taken = []
    items = (taken.append(item) or item for item in range(20))
    with ThreadPoolExecutor(4) as pool:
        results = in_order(pool, lambda item: time.sleep(0.001 * (item % 3)) or item * item, items, ahead=5)
        assert next(results) == 0
        assert len(taken) <= 6
        assert list(results) == [item * item for item in range(1, 20)]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--max_length", "0"], "--max_length must be at least 1, got 0"),
        (["--min_word_freq", "-1"], "--min_word_freq must be at least 0, got -1"),
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--metres_per_pixel", "0"], "--metres_per_pixel must be positive, got 0.0: give metres"),
        (["--metres_per_pixel", "nan"], "--metres_per_pixel must be positive, got nan"),
        (["--metres_per_pixel", "1", "--format", "released"], "--metres_per_pixel is not stored by --format"),
        (["--val_share", "1"], "--val_share must be between 0 and 1, got 1.0"),
        (["--val_share", "0.1", "--format", "released"], "--val_share needs --format ours"),
    ],
)
def test_a_number_out_of_range_is_refused(tmp_path, options, rule):
    with pytest.raises(ValueError, match=rule):
        main([*options, "--output_dir", str(tmp_path / "created")])


def test_facts_go_to_standard_output_and_warnings_to_standard_error(second_cc_folder):
    root = second_cc_folder()
    words = ("--dataset_dir", root, "--output_dir", root.parent / "created", "--min_word_freq", 0)
    done = command_line(*words, "--image_size", 16)
    assert done.returncode == 0
    assert "train: 3 pairs (0 augmented), 2 changed, 1 unchanged" in done.stdout
    assert "train.hdf5: " in done.stdout
    assert "few pairs" in done.stdout
    assert "few pairs" not in done.stderr
    heading, *warnings = done.stderr.splitlines()
    assert heading == f"warnings: {len(warnings)}"
    assert all(line.startswith("- ") and ": " in line for line in warnings)


def test_strict_turns_warnings_into_an_error_and_writes_nothing(second_cc_folder):
    root = second_cc_folder()
    words = ["--dataset_dir", root, "--output_dir", root.parent / "created", "--min_word_freq", 0, "--strict"]
    done = command_line(*words)
    assert done.returncode == 2
    *warnings, error = done.stderr.splitlines()
    number = len(warnings) - 1
    assert warnings[0] == f"warnings: {number}"
    assert error.endswith(
        f"--strict refuses data with warnings, got {number}: follow them or leave out --strict"
    )
    assert "wrote" not in done.stdout
    assert not (root.parent / "created").exists()


def faultless_entries() -> list[dict]:
    """Entries of a data set without warnings."""
    entries = []
    for split, count in (("train", 100), ("val", 20), ("test", 20)):
        for number in range(count):
            changed = number % 2
            captions = ["a house appears"] if changed else ["nothing has changed"]
            entries.append(entry(f"{split}_{number:03d}.png", split, *captions, changeflag=changed))
    return entries


def test_data_without_warnings_print_none_and_pass_strict(second_cc_folder, capsys):
    output = prepare(second_cc_folder(faultless_entries()), "--strict", "--captions_per_image", "1")
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in output.iterdir()) == FILES


def test_few_and_resized_pairs_pass_strict(second_cc_folder, capsys):
    entries = [item for item in faultless_entries() if item["filename"][-7:-5] == "00"]
    prepare(second_cc_folder(entries, size=32), "--strict", "--captions_per_image", "1")
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "few pairs: train 10, val 10, test 10: start from a trained model" in captured.out
    assert "pairs resized to 16 x 16: 30; rows x columns (pairs): 32 x 32 (30): --tile cuts" in captured.out


def test_unusable_vocabulary_is_an_error_that_names_a_value_that_works(second_cc_folder):
    root = second_cc_folder()
    options = ("--dataset_dir", root, "--output_dir", root.parent / "created", "--image_size", 16)
    done = command_line(*options)
    assert done.returncode == 2
    rule = r"at most 20% of the training words may be unknown, --min_word_freq 5 leaves \d+\.\d%: "
    remedy = re.search(rule + r"give --min_word_freq (\d), which leaves (\d+\.\d)%\n", done.stderr)
    assert remedy, done.stderr
    assert not (root.parent / "created").exists()
    again = command_line(*options, "--min_word_freq", remedy[1])
    assert again.returncode == 0
    assert re.search(rf"^train: .*\({remedy[2]}\d%\)$", again.stdout, re.M)


def test_vocabulary_file_replaces_the_words_of_the_captions(second_cc_folder, capsys):
    root = second_cc_folder()
    first = prepare(root)
    words = json.loads((first / "vocabulary.json").read_text())
    new = second_cc_folder(
        [entry(f"{split}.png", split, "a bridge appears") for split in ("train", "val", "test")], name="new"
    )
    capsys.readouterr()
    output = prepare(new, "--vocabulary", str(first / "vocabulary.json"), "--force")
    captured = capsys.readouterr()
    train = SplitReader(split_path(output, "train"))
    assert list(train.vocabulary.words) == words
    assert spoken(train, 0) == ["a <unk> appears"] * 5
    assert f"vocabulary: {len(words)} entries including the four special tokens, built from " in captured.out
    assert "train: words: 3, unknown: 1 (33.33%)" in captured.out
    assert (
        "- unknown words: train 33.3%, val 33.3%, test 33.3% (bridge 3): leave out --vocabulary and"
        in captured.err
    )


def test_vocabulary_of_an_authors_word_map_is_read(second_cc_folder, tmp_path):
    vocabulary = Vocabulary.build([["a", "house"]], 0)
    (tmp_path / "WORDMAP_x.json").write_text(json.dumps(vocabulary.to_word_map()))
    output = prepare(second_cc_folder(), "--vocabulary", str(tmp_path / "WORDMAP_x.json"))
    assert SplitReader(split_path(output, "train")).vocabulary.words == vocabulary.words


def test_vocabulary_of_a_checkpoint_is_read(second_cc_folder, tiny_run):
    stored = load_checkpoint(tiny_run / "best.pt")["vocabulary"]
    output = prepare(second_cc_folder(), "--vocabulary", str(tiny_run / "best.pt"))
    assert list(SplitReader(split_path(output, "train")).vocabulary.words) == stored


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, r"--vocabulary .*words.json is not a file: give a best.pt or a vocabulary.json"),
        ("[1]", r"words.json must hold a list of words"),
        ('{"a": 7}', r"words.json must hold a word map"),
        ('["<pad>", "maison", "<unk>", "<start>", "<end>"]', "has no word of these captions: leave it out"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_refused(second_cc_folder, tmp_path, content, rule):
    if content:
        (tmp_path / "words.json").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=rule):
        prepare(second_cc_folder(), "--vocabulary", str(tmp_path / "words.json"))


def test_vocabulary_of_a_change_detector_is_refused(second_cc_folder, demo_input, tmp_path):
    save_tiny_detector(tmp_path / "detector.pt", demo_input)
    with pytest.raises(
        ValueError, match="this checkpoint is of a change detector: give the best.pt of a capt"
    ):
        prepare(second_cc_folder(), "--vocabulary", str(tmp_path / "detector.pt"))


def test_tiles_hold_the_pixels_of_the_files_and_the_captions_of_their_pair(second_cc_folder, capsys):
    root = second_cc_folder(size=40)
    output = prepare(root, "--tile")
    captured = capsys.readouterr()
    train = SplitReader(split_path(output, "train"))
    starts = [0, 16, 24]  # the last tile ends at the border
    names = [f"00001_{row}_{column}.png" for row in starts for column in starts]
    assert train.filenames[:9] == names
    assert set(train.sources[:9]) == {"00001"}
    for index in (0, 5, 8):
        row, column = starts[index // 3], starts[index % 3]
        for view, folder in enumerate(("rgb/A", "rgb/B")):
            image = iio.imread(root / "train" / folder / "00001.png")
            tile = image[row : row + 16, column : column + 16].transpose(2, 0, 1)
            assert (train.views(index)[view] == tile).all()
    assert train.references[:9] == [train.references[0]] * 9
    houses = [train.views(index)[3].any() for index in range(9)]  # at rows and columns 10 to 19
    assert houses == [True, True, False] * 2 + [False] * 3
    assert train.changed[:9].tolist() == houses
    assert not train.changed[9:18].any(), "an unchanged pair"
    assert "- pairs cut into tiles: 6, into 54: each tile has all captions of its pair" in captured.err
    assert (
        "tiles that count as unchanged because both maps are void, in changed pairs: 20 (0000" in captured.err
    )
    assert "resized" not in captured.err


def test_tiles_of_pairs_without_maps_keep_the_change_flag(second_cc_folder, capsys):
    output = prepare(second_cc_folder(size=32, with_maps=False), "--tile")
    assert SplitReader(split_path(output, "train")).changed.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    warnings = capsys.readouterr().err
    assert "tiles of changed pairs without maps, which all count as changed: 16 (00001_0_0.png; " in warnings


def test_pairs_smaller_than_a_tile_are_resized_with_a_warning(second_cc_folder, capsys):
    output = prepare(second_cc_folder(size=12), "--tile")
    assert SplitReader(split_path(output, "train")).filenames == ["00001.png", "00002.png", "00003.png"]
    warnings = capsys.readouterr().out
    assert "pairs resized to 16 x 16: 6; rows x columns (pairs): 12 x 12 (6): they are smaller" in warnings
    assert "tiles" not in warnings


def test_tile_with_the_name_of_another_pair_is_refused(second_cc_folder):
    root = second_cc_folder(
        [entry("1.png", "train", "a house"), entry("1_0_16.png", "train", "a house")], size=32
    )
    save_small = {date: iio.imread(root / "train/rgb" / date / "1_0_16.png")[:16, :16] for date in "AB"}
    for date, image in save_small.items():
        for kind in ("rgb", "sem"):
            save(root / "train" / kind / date / "1_0_16.png", image)
    with pytest.raises(
        ValueError, match=r"--tile would give 2 pairs of train the name 1_0_16.png: rename the"
    ):
        prepare(root, "--tile")


def test_words_and_no_change_sentences_are_those_of_whole_pairs(second_cc_folder):
    entries = [entry(f"{number}.png", "train", "a house is built") for number in range(8)]
    entries += [entry("barn.png", "train", "a barn is built")]
    entries += [entry(f"same{number}.png", "train", "a house stays", changeflag=0) for number in range(8)]
    output = prepare(second_cc_folder(entries, size=32), "--min_word_freq", "1", "--tile")
    train = SplitReader(split_path(output, "train"))
    assert "barn" not in train.vocabulary, "it occurs in one pair, though in four tiles"
    assert train.no_change == ("a house stays",), "not the captions of tiles that count as unchanged"


@pytest.mark.parametrize(
    ("size", "options", "expected"), [(16, [], 0.5), (64, [], 2.0), (64, ["--tile"], 0.5)]
)
def test_ground_resolution_of_the_stored_images_is_recorded(second_cc_folder, size, options, expected):
    output = prepare(second_cc_folder(size=size), "--metres_per_pixel", "0.5", *options)
    assert SplitReader(split_path(output, "test")).metres_per_pixel == expected


def test_unknown_ground_resolution_is_none(second_cc_folder):
    assert SplitReader(split_path(prepare(second_cc_folder()), "test")).metres_per_pixel is None


@pytest.mark.parametrize(
    ("harm", "rule"),
    [
        (lambda root: (root / "SECOND-CC-AUG.json").write_text("{"), "SECOND-CC-AUG.json is not JSON"),
        (lambda root: (root / "val/sem/B/00004.png").unlink(), "val/sem/B/00004.png not found"),
        (
            lambda root: (root / "val/rgb/A/00004.png").write_bytes(b"\x89PNG"),
            "val/rgb/A/00004.png cannot be read as an image",
        ),
        (lambda root: save(root / "val/sem/A/00004.png", np.zeros((9, 9, 3), np.uint8)), "one size"),
        (lambda root: shutil.rmtree(root), "SECOND_CC_dataset not found"),
    ],
)
def test_bad_input_ends_in_one_line_and_exit_code_2(second_cc_folder, harm, rule):
    root = second_cc_folder()
    harm(root)
    output = root.parent / "created"
    done = command_line("--dataset_dir", root, "--output_dir", output, "--workers", 2, "--min_word_freq", 0)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("create_input_files.py: error: ")
    assert rule in line
    assert done.stdout == ""
    assert not output.exists()


@pytest.mark.parametrize("form", ["ours", "released"])
def test_a_full_disk_ends_in_one_line_too(second_cc_folder, form):
    root = second_cc_folder([entry(f"{number}.png", "train", "a house appears") for number in range(9)])
    output = root.parent / "created"
    options = f"--dataset_dir {root} --output_dir {output} --image_size 1024 --format {form}"
    limited = f"ulimit -f 20000; exec {sys.executable} {SCRIPT} {options}"  # no file over 20 MB
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"create_input_files\.py: error: .*cannot be written in full.*\n", done.stderr)
    assert not output.exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_cleans_up(second_cc_folder, name):
    entries = [entry(f"{number}.png", "train", "a house appears") for number in range(150)]
    root = second_cc_folder(entries, size=64)
    output = root.parent / "created"
    options = ["--dataset_dir", root, "--output_dir", output, "--image_size", 1024, "--workers", 2]
    words = [str(word) for word in (sys.executable, SCRIPT, *options)]
    run = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not any(path.stat().st_size > 10_000_000 for path in output.glob(".incomplete/train.hdf5*")):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    os.killpg(run.pid, getattr(signal, name)) if name == "SIGINT" else run.terminate()
    _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (130, "create_input_files.py: interrupted\n")
    assert not output.exists()


@pytest.mark.real
@pytest.mark.slow
def test_real_pairs(real_pairs, tmp_path, capsys):
    output = tmp_path / "created"
    main(["--dataset_dir", str(real_pairs), "--output_dir", str(output)])
    facts = capsys.readouterr().out
    assert "train: 470 pairs (0 augmented), 311 changed, 159 unchanged" in facts
    assert "captions per pair (number of pairs): 5 (555)" in facts
    assert (
        "identical images: 0, source images: 0, augmented copies of a pair: 0; pairs of unknown source: 555"
        in facts
    )
    entries = json.loads((real_pairs / "SECOND-CC-AUG.json").read_text())["images"]
    for split in ("train", "val", "test"):
        reader, mine = (
            SplitReader(split_path(output, split)),
            [item for item in entries if item["split"] == split],
        )
        assert reader.filenames == [item["filename"] for item in mine]
        assert reader.raw == [[sentence["raw"] for sentence in item["sentences"]] for item in mine]
        assert reader.references == [[" ".join(s["tokens"]) for s in item["sentences"]] for item in mine]
        assert reader.changed.tolist() == [item["changeflag"] == 1 for item in mine]
        for index in range(0, len(reader), 20):
            for place, folder in enumerate(("rgb/A", "rgb/B", "sem/A", "sem/B")):
                image = iio.imread(real_pairs / split / folder / reader.filenames[index])
                assert (reader.views(index)[place] == image.transpose(2, 0, 1)).all()
        assert split_path(output, split).stat().st_size / len(reader) <= 474_000


@pytest.mark.real
@pytest.mark.slow
def test_real_pairs_in_levir_mcis_layout(real_pairs, tmp_path):
    root = tmp_path / "Levir-MCI-dataset"
    entries = json.loads((real_pairs / "SECOND-CC-AUG.json").read_text())["images"][::20]
    for item in entries:
        home = root / "images" / item["split"]
        for date in "AB":
            image = iio.imread(real_pairs / item["split"] / "rgb" / date / item["filename"])
            save(home / date / item["filename"], image)
        buildings = iio.imread(real_pairs / item["split"] / "sem" / "B" / item["filename"]).any(axis=-1)
        save(home / "label" / item["filename"], buildings.astype(np.uint8) * 255)
    (root / "LevirCCcaptions.json").write_text(json.dumps({"images": entries}))

    output = prepare(root, "--image_size", "256")

    reader = SplitReader(split_path(output, "train"))
    for index, filename in enumerate(reader.filenames):
        image = iio.imread(real_pairs / "train" / "sem" / "B" / filename)
        assert (reader.views(index)[3] == image.transpose(2, 0, 1)).all()
        assert not reader.views(index)[2].any()
