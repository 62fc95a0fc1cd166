"""Maps predicted by a change detector: files beside the splits, their use, and maps of a single pair."""

import csv
import json
import shutil
from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import torch

import caption
import eval as evaluation
from configs import Config
from data.dataset import ChangeCaptions
from data.palette import SECOND
from data.settings import DataConfig
from data.splits import open_reader
from tests.helpers.tiny import save_tiny_detector
from tools import create_input_files, detect_maps
from tools.engine.checkpoint import load_checkpoint, restore_detector, save_checkpoint
from tools.engine.provenance import folder_name
from tools.engine.training_data import open_samples

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def data(demo_input, tmp_path_factory) -> Path:
    """A copy of the demo set's input files, for the maps of these tests."""
    return Path(shutil.copytree(demo_input, tmp_path_factory.mktemp("detected") / "input"))


@pytest.fixture(scope="module")
def detector(data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "best.pt"
    save_tiny_detector(path, data)
    return path


@pytest.fixture(scope="module")
def written(data, detector) -> Path:
    """The folder of input files, with the maps of val and test beside them."""
    detect_maps.main(["--checkpoint", str(detector), "--split", "val", "test", "--decode.batch_size", "2"])
    return data


@pytest.fixture(scope="module")
def pair(demo_input) -> list[str]:
    """Files of the first val pair: img_A img_B seg_A seg_B, 256 x 256."""
    val = demo_input.parent / "dataset" / "val"
    name = min(path.name for path in (val / "rgb" / "A").iterdir())
    return [str(val / view / name) for view in ("rgb/A", "rgb/B", "sem/A", "sem/B")]


@pytest.fixture
def run_caption(tiny_run, capsys):
    """Runs caption.py's main and returns standard output and standard error."""

    def run(*argv: object) -> tuple[str, str]:
        caption.main([*map(str, argv), "--checkpoint", str(tiny_run / "best.pt")])
        return tuple(capsys.readouterr())

    return run


def samples(folder: Path, split: str = "val", **settings) -> ChangeCaptions:
    reader = open_reader(split, DataConfig(dir=str(folder)))
    return ChangeCaptions(reader, rows=range(len(reader)), captions="none", **settings)


def test_maps_equal_those_of_the_detector(written, detector):
    given, detected = samples(written), samples(written, maps="detected")
    views = torch.stack([sample["views"] for sample in given])
    maps = restore_detector(load_checkpoint(detector)).detect(views)
    assert maps.any()
    for index, actual in enumerate(maps):
        torch.testing.assert_close(detected[index]["views"][:2], views[index, :2])
        torch.testing.assert_close(detected[index]["views"][2:], actual)
    assert torch.equal(samples(written, maps="detected", images_of=[2, 0, 1])[0]["views"][2:], maps[2])


def test_file_stores_its_origin(written):
    with h5py.File(written / "val.detected.hdf5") as file:
        attributes = dict(file.attrs)
        assert file["sem"].shape == (3, 2, 3, 32, 32)
    assert attributes["fingerprint"] == open_reader("val", DataConfig(dir=str(written))).fingerprint
    assert attributes["command"].startswith("detect_maps.py --checkpoint ")
    assert len(attributes["detector"]) == 64
    assert not list(written.glob("*.partial"))


def test_training_and_evaluation_use_detected_maps(written):
    config = Config(data=DataConfig(dir=str(written), maps="detected"))
    assert torch.equal(open_samples("val", config)[0]["views"], samples(written, maps="detected")[0]["views"])
    assert folder_name(["test"], config, False, Config()) == "test_detected_maps"


def test_missing_maps_and_maps_of_other_pairs_are_refused(written, tmp_path):
    remedy = "run tools/detect_maps.py --checkpoint DETECTOR --data.dir"
    folder = Path(shutil.copytree(written, tmp_path / "input"))
    (folder / "val.detected.hdf5").unlink()
    with pytest.raises(
        FileNotFoundError, match=f"val.detected.hdf5 not found, data.maps is detected: {remedy}"
    ):
        samples(folder, maps="detected")
    shutil.copy(written / "test.detected.hdf5", folder / "val.detected.hdf5")
    with pytest.raises(ValueError, match=f"must hold maps of the current val.hdf5: {remedy}"):
        samples(folder, maps="detected")
    (folder / "val.detected.hdf5").write_bytes(b"cut off")
    with pytest.raises(ValueError, match=f"is not a complete HDF5 file: {remedy}"):
        samples(folder, maps="detected")


def test_authors_files_work_with_detected_maps(data, detector, demo_input, tmp_path):
    argv = [
        "--dataset_dir",
        str(demo_input.parent / "dataset"),
        "--output_dir",
        str(tmp_path),
        "--workers",
        "1",
    ]
    create_input_files.main([*argv, "--image_size", "32", "--min_word_freq", "1", "--format", "released"])
    detect_maps.main(["--checkpoint", str(detector), "--data.dir", str(tmp_path), "--split", "val"])
    assert torch.equal(
        samples(tmp_path, maps="detected")[0]["views"][2:],
        restore_detector(load_checkpoint(detector)).detect(samples(data)[0]["views"].unsqueeze(0))[0],
    )


def test_captioner_and_detector_are_not_interchangeable(tiny_run, detector, pair, run_caption):
    with pytest.raises(ValueError, match="a change detector is needed, .* holds mmodalcc"):
        detect_maps.main(["--checkpoint", str(tiny_run / "best.pt")])
    with pytest.raises(ValueError, match="a change detector is needed, .* holds mmodalcc"):
        run_caption(*pair[:2], "--detector", tiny_run / "best.pt")
    with pytest.raises(ValueError, match="a captioning model is needed, .* holds change_detector"):
        caption.main([*pair, "--checkpoint", str(detector)])


def test_scores_are_printed_with_the_floor(detector, data, tmp_path, capsys):
    evaluation.main(["--checkpoint", str(detector), "--split", "val", "test", "--output", str(tmp_path)])
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["OA", "mIoU", "SeK", "F_scd", "P_scd", "R_scd"]
    assert [line.split()[0] for line in table[1:3]] == ["ours", "floor"]
    scores = json.loads((tmp_path / "scores.json").read_text())
    confusion = np.array(scores["confusion"])
    assert confusion.sum() == 9 * 2 * 32 * 32
    maps = [sample["views"][2:].numpy() for split in ("val", "test") for sample in samples(data, split)]
    truth = np.bincount(SECOND.map_classes(np.stack(maps)).flatten(), minlength=7)
    np.testing.assert_array_equal(confusion.sum(0), truth)
    assert scores["floor"]["sek"] == 0 < scores["floor"]["oa"]
    with pytest.raises(ValueError, match="--shuffle_images is a control of captions"):
        evaluation.main(["--checkpoint", str(detector), "--shuffle_images"])


def test_captions_from_images_equal_those_from_saved_maps(run_caption, pair, detector, tmp_path):
    out, err = run_caption(
        *pair[:2], "--detector", detector, "--maps_to", tmp_path, "--picture", tmp_path / "p.png"
    )
    assert "no maps given: both are detected" in err
    name = Path(pair[0]).name
    maps = [tmp_path / date / name for date in "AB"]
    assert all(f"map in {path}" in err for path in maps)
    assert iio.imread(maps[0]).shape == (256, 256, 3)
    assert iio.imread(tmp_path / "p.png").std() > 10
    assert out == run_caption(*pair[:2], *maps)[0]


def test_missing_maps_of_a_table_are_predicted(run_caption, pair, detector, tmp_path):
    rows = [",".join(pair), ",".join([*pair[:2], "", ""])]
    (tmp_path / "pairs.csv").write_text("\n".join(["img_A,img_B,seg_A,seg_B", *rows]))
    out, err = run_caption("--pairs", tmp_path / "pairs.csv", "--detector", detector)
    assert "no maps given for 1 of 2 pairs: they are detected" in err
    captions = [row["caption"] for row in csv.DictReader(out.splitlines())]
    assert captions == [
        run_caption(*pair)[0].strip(),
        run_caption(*pair[:2], "--detector", detector)[0].strip(),
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(["img_A,img_B,seg_A,seg_B", rows[1], rows[1]]))
    with pytest.raises(ValueError, match="--maps_to needs images of different names, 2 would give "):
        run_caption("--pairs", tmp_path / "pairs.csv", "--detector", detector, "--maps_to", tmp_path / "maps")


def test_unused_options_are_refused(run_caption, pair, detector, tmp_path):
    with pytest.raises(ValueError, match="--maps_to saves the maps of a change detector: add --detector"):
        run_caption(*pair[:2], "--maps_to", tmp_path)
    with pytest.raises(ValueError, match="--detector predicts missing maps, but all are given"):
        run_caption(*pair, "--detector", detector)
    content = {**load_checkpoint(detector), "image_size": [48, 48]}
    save_checkpoint(tmp_path / "large.pt", content)
    with pytest.raises(ValueError, match=r"must be trained on \(32, 32\) images .* got \(48, 48\)"):
        run_caption(*pair[:2], "--detector", tmp_path / "large.pt")
