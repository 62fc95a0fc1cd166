"""Captioning one's own pairs: one, many, with and without maps, of any size; and every mistake."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import caption
from configs import Config
from data.pair_files import PairFiles
from models import build_model
from tests.conftest import CONFIGS
from tools.engine.caption_output import Row, open_table
from tools.engine.caption_pairs import read_ahead
from tools.engine.checkpoint import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def pair(demo_input) -> list[str]:
    """Files of a test pair: img_A img_B seg_A seg_B."""
    test = demo_input.parent / "dataset" / "test"
    name = sorted(path.name for path in (test / "rgb" / "A").iterdir())[0]
    return [str(test / view / name) for view in ("rgb/A", "rgb/B", "sem/A", "sem/B")]


@pytest.fixture
def say(tiny_run, capsys):
    """Runs caption.py's main and returns standard output and standard error."""

    def run(*argv: str) -> tuple[str, str]:
        caption.main([*argv, "--checkpoint", str(tiny_run / "best.pt")])
        return tuple(capsys.readouterr())

    return run


def test_one_sentence(say, pair):
    out, err = say(*pair)
    assert out.count("\n") == 1
    assert "resized from 256 x 256 to 32 x 32" in err
    assert "void" not in err


def test_missing_maps_are_void_with_a_remark(say, pair, tmp_path):
    void = tmp_path / "void.png"
    iio.imwrite(void, np.full((256, 256, 3), 255, dtype=np.uint8))
    out, err = say(*pair[:2])
    assert (
        "no maps given: both are void, and a model trained with maps then rarely reports a change: give "
        "maps or --detector, or train with --data.augment '[map_void]'\n"
    ) in err
    assert out == say(*pair[:2], str(void), str(void))[0]


def test_photos_given_as_maps_are_errors(say, pair, tmp_path):
    with pytest.raises(ValueError, match=rf"{re.escape(pair[0])} must be a map .* IMG_A IMG_B SEG_A SEG_B"):
        say(*pair[2:], *pair[:2])
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(["img_A,img_B,seg_A,seg_B", ",".join([*pair[2:], *pair[:2]]), ",".join(pair)]))
    with pytest.raises(SystemExit) as end:
        say("--pairs", str(table), "--output", str(tmp_path / "out.csv"))
    assert end.value.code == 1
    swapped, right = csv.DictReader((tmp_path / "out.csv").open())
    assert "the model's classes are low vegetation (0, 128, 0), " in swapped["error"]
    assert not swapped["caption"]
    assert right["caption"]
    assert not right["error"]


def test_any_unknown_colours_are_reported(say, pair, tmp_path):
    semantic = iio.imread(pair[3]).copy()
    semantic[:2, :2] = 200, 30, 200
    iio.imwrite(tmp_path / "map.png", semantic)
    err = say(*pair[:3], str(tmp_path / "map.png"))[1]
    assert (
        f"{tmp_path / 'map.png'}: 1% of its pixels have a colour of no class: the model's classes are low "
        in err
    )
    assert "the order is" not in err


def test_mask_class_is_given_or_taken_from_the_checkpoint(say, pair, tiny_run, tmp_path, capsys):
    semantic = np.zeros((256, 256, 3), np.uint8)
    semantic[64:192, 64:192] = 0, 0, 255
    colours, mask, void = (tmp_path / name for name in ("map.png", "mask.png", "void.png"))
    iio.imwrite(colours, semantic)
    iio.imwrite(mask, semantic[..., 2])
    iio.imwrite(void, np.zeros_like(semantic))
    with pytest.raises(ValueError, match=r"mask\.png is a mask of 0 and 255, .*--mask_class"):
        say(*pair[:2], str(mask))
    right = say(*pair[:2], str(void), str(colours), "--json")[0]
    named = say(*pair[:2], str(mask), "--json", "--mask_class", "water")[0]
    assert json.loads(named)["log_prob"] == json.loads(right)["log_prob"]
    save_checkpoint(tmp_path / "masks.pt", {**load_checkpoint(tiny_run / "best.pt"), "mask_class": "water"})
    caption.main([*pair[:2], str(mask), "--json", "--checkpoint", str(tmp_path / "masks.pt")])
    assert json.loads(capsys.readouterr().out)["log_prob"] == json.loads(right)["log_prob"]


@pytest.mark.parametrize(
    ("modalities", "read", "unused"), [("rgb", "images", "maps"), ("sem", "maps", "images")]
)
def test_single_modality_model_reports_ignored_files(
    tiny_run, pair, tmp_path, capsys, modalities, read, unused
):
    content = load_checkpoint(tiny_run / "best.pt")
    content["config"]["model"]["modalities"] = modalities
    model = build_model(Config.from_dict(content["config"]).model, len(content["vocabulary"]))
    save_checkpoint(tmp_path / "best.pt", {**content, "model": model.state_dict()})
    remark = f"this model uses only the {read}: the {unused} are ignored"
    caption.main([*pair, "--checkpoint", str(tmp_path / "best.pt")])
    assert remark in capsys.readouterr().err
    caption.main([*pair[:2], "--checkpoint", str(tmp_path / "best.pt")])
    assert (remark in (said := capsys.readouterr().err)) == ("both are void" in said) == (modalities == "sem")


def test_several_answers_and_json(say, pair):
    lines = say(*pair, "--answers", "3")[0].splitlines()
    assert len(lines) == 3
    scores = [float(line.split("\t")[1]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    found = json.loads(say(*pair, "--answers", "3", "--json")[0])
    assert found["img_A"] == pair[0]
    assert [a["caption"] for a in found["answers"]] == [line.split("\t")[0] for line in lines]
    assert found["caption"] == found["answers"][0]["caption"]


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_many_pairs(say, pair, tmp_path, suffix):
    columns = ["img_A", "img_B", "seg_A", "seg_B"]
    rows = [dict(zip(columns, pair, strict=True)), dict(zip(columns, [*pair[:2], "", ""], strict=True))]
    path, output = tmp_path / f"pairs{suffix}", tmp_path / f"out{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    _, err = say("--pairs", str(path), "--output", str(output), "--decode.batch_size", "1")
    assert "no maps given for 1 of 2 pairs" in err
    assert re.fullmatch(
        r"pairs: 2, changed: \d, unchanged: \d, errors: 0, seconds: [\d.]+, resized: 2, captions in "
        + re.escape(str(output)),
        err.splitlines()[-1],
    )
    assert len(err.splitlines()) == 2
    text = output.read_text()
    found = json.loads(text) if suffix == ".json" else list(csv.DictReader(text.splitlines()))
    assert [row["caption"] for row in found] == [say(*pair)[0].strip("\n"), say(*pair[:2])[0].strip("\n")]


def test_paths_of_a_table_are_relative_to_it(say, pair, tmp_path):
    for name, source in zip(("a.png", "b.png"), pair, strict=False):
        (tmp_path / name).write_bytes(Path(source).read_bytes())
    (tmp_path / "pairs.csv").write_text("img_A,img_B\na.png,b.png\n")
    rows = list(csv.DictReader(say("--pairs", str(tmp_path / "pairs.csv"))[0].splitlines()))
    assert rows[0]["caption"] == say(*pair[:2])[0].strip("\n")


def test_folders_are_captioned_like_a_table_of_their_pairs(say, pair, tmp_path):
    folders = [str(Path(path).parent) for path in pair]
    out, err = say(*folders)
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["img_A"] for row in rows] == sorted(str(path) for path in Path(folders[0]).iterdir())
    assert rows[0]["caption"] == say(*pair)[0].strip("\n")
    assert err.splitlines()[-1].startswith(f"pairs: {len(rows)}, changed: ")
    assert len(err.splitlines()) == 1
    json_rows = json.loads(say(*folders, "--json", "--answers", "2")[0])
    assert [row["caption"] for row in json_rows] == [row["caption"] for row in rows]
    assert list(json_rows[0])[:5] == ["img_A", "img_B", "seg_A", "seg_B", "changed"]
    with pytest.raises(ValueError, match="--picture and --attention draw one pair"):
        say(*folders, "--picture", str(tmp_path / "a.png"))


def test_the_table_of_captions_keeps_what_the_table_of_pairs_has(say, pair, tiny_run, tmp_path, capsys):
    for name, source in zip(("a.png", "b.png"), pair, strict=False):
        (tmp_path / name).write_bytes(Path(source).read_bytes())
    (tmp_path / "pairs.csv").write_text("id;alt;neu;caption\n7;./a.png;b.png;a house\n")
    argv = ["--pairs", str(tmp_path / "pairs.csv"), "--columns", "img_A=alt,img_B=neu"]
    out, err = say(*argv)
    columns = "img_A,img_B,seg_A,seg_B,changed,change_probability,caption,log_prob,error,id,given_caption"
    assert out.startswith(f"{columns}\n")
    (row,) = csv.DictReader(out.splitlines())
    assert [row[name] for name in ("img_A", "img_B", "id", "given_caption")] == [
        "./a.png",
        "b.png",
        "7",
        "a house",
    ]
    assert row["changed"] == "yes"
    assert "the column caption of the table is written as given_caption" in err
    content = load_checkpoint(tiny_run / "best.pt")
    save_checkpoint(tmp_path / "same.pt", {**content, "no_change": [row["caption"]]})
    caption.main([*argv, "--checkpoint", str(tmp_path / "same.pt"), "--json"])
    assert json.loads(capsys.readouterr().out)[0]["changed"] == "no"


def test_remarks_on_many_maps_are_counted(say, pair, tmp_path):
    building, magenta = (128, 0, 0), (255, 0, 255)
    pixels = np.full_like(iio.imread(pair[3])[..., :3], building)
    pixels[: len(pixels) // 2] = magenta
    mixed = tmp_path / "mixed.png"
    iio.imwrite(mixed, pixels)
    (tmp_path / "pairs.json").write_text(
        json.dumps([{"img_A": pair[0], "img_B": pair[1], "seg_A": pair[3], "seg_B": str(mixed)}] * 3)
    )
    err = say("--pairs", str(tmp_path / "pairs.json"))[1]
    assert f"remarks on maps: 3 (one is {mixed}: 50% of its pixels" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_captions_and_file_names_survive_narrow_encodings(pair, tiny_run, tmp_path, encoding):
    for name, source in zip(("\u524d.png", "\u5f8c.png"), pair, strict=False):
        (tmp_path / name).write_bytes(Path(source).read_bytes())
    (tmp_path / "pairs.csv").write_text("img_A,img_B\n\u524d.png,\u5f8c.png\n", encoding="utf-8")
    script = [sys.executable, str(CONFIGS.parent / "caption.py"), "--pairs", str(tmp_path / "pairs.csv")]
    done = subprocess.run(
        [*script, "--checkpoint", str(tiny_run / "best.pt")],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "20"},
    )
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(done.stdout.decode(encoding).splitlines())
    assert row["img_A"] == ("\u524d.png" if encoding == "utf-8" else "\\u524d.png")
    assert row["caption"]


def test_a_picture(say, pair, tmp_path):
    say(*pair, "--picture", str(tmp_path / "new" / "caption.png"))
    assert iio.imread(tmp_path / "new" / "caption.png").std() > 10


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.png"], "a pair must be IMG_A IMG_B, .*, got 1 files"),
        (["a.png", "b.png"], "a.png not found"),
        (["--pairs", "none.csv"], "none.csv not found: --pairs takes a CSV or JSON file"),
        (
            ["a.png", "b.png", "--answers", "9"],
            "--answers 9 needs as many beams: raise --decode.beam_size, now 4",
        ),
        (["a.png", "b.png", "--output", "x.csv"], "--output takes the captions of --pairs or of folders"),
        (
            ["a.png", "b.png", "--pairs", "x.csv"],
            "--pairs is given beside a.png: leave out the images or --pai",
        ),
        (
            ["a.png", "b.png", "--columns", "img_A=a"],
            "--columns names the columns of a table: add --pairs FILE",
        ),
        (["a.png", "b.png", "--beam", "3"], "unrecognized arguments: --beam 3"),
    ],
)
def test_mistakes_are_named(say, argv, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        say(*argv)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("img_A,img_B\n", "holds no pair: give a header img_A,img_B,seg_A,seg_B"),
        ("old,new\na,b\n", "must have the columns img_A and img_B, got old, new: .*--columns img_A=NAME"),
        ("img_A,img_B\na,\n", "row 1: a pair needs img_A and img_B"),
        ("img_A,img_B,seg_A\na,b,c\n", "row 1: .*both maps, seg_B alone or none"),
    ],
)
def test_mistakes_in_a_table_are_named(say, tmp_path, content, message):
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        say("--pairs", str(tmp_path / "pairs.csv"))


def test_damaged_images_are_named(say, pair, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(pair[0]).read_bytes()[:500])
    with pytest.raises(ValueError, match=r"broken.png cannot be read as an image"):
        say(str(broken), pair[1])
    small = tmp_path / "small.png"
    iio.imwrite(small, np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="the images of a pair must have one size"):
        say(pair[0], str(small))


def test_newest_run_is_the_default(tiny_run, pair, tmp_path):
    command = [sys.executable, str(CONFIGS.parent / "caption.py"), *pair]
    empty = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1)
    assert "runs/*/best.pt not found: train a model with train.py" in empty.stderr
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny").symlink_to(tiny_run)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "checkpoint runs/tiny/best.pt" in done.stderr
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_unreadable_pair_affects_only_its_row(say, pair, tmp_path, suffix, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(pair[0]).read_bytes()[:500])
    rows = [[*pair[:2]], [str(broken), pair[1]], ["absent.png", pair[1]], ["nul\0.png", pair[1]], [*pair[:2]]]
    (tmp_path / "pairs.json").write_text(json.dumps([{"img_A": a, "img_B": b} for a, b in rows]))
    output = tmp_path / f"out{suffix}"
    with pytest.raises(SystemExit) as exit_code:
        say("--pairs", str(tmp_path / "pairs.json"), "--output", str(output), "--decode.batch_size", "3")
    assert exit_code.value.code == 1
    assert ", errors: 3 (see the column error), " in capsys.readouterr().err.splitlines()[-1]
    text = output.read_text()
    found = json.loads(text) if suffix == ".json" else list(csv.DictReader(text.splitlines()))
    assert [row["caption"] or "" for row in found] == [
        say(*pair[:2])[0].strip("\n") if n in (0, 4) else "" for n in range(5)
    ]
    errors = [row["error"] or "" for row in found]
    assert errors[0] == errors[4] == ""
    assert "broken.png cannot be read as an image" in errors[1]
    assert "absent.png not found" in errors[2]
    assert errors[3]


def write_one_row(output: Path) -> None:
    with open_table(output, as_json=output.suffix == ".json") as table:
        table.write(Row(PairFiles({"img_A": "a", "img_B": "b"}), error="damaged"))
        raise KeyboardInterrupt


def test_rows_are_kept_if_captioning_ends_early(tmp_path):
    for suffix in (".csv", ".json"):
        output = tmp_path / f"out{suffix}"
        with pytest.raises(KeyboardInterrupt):
            write_one_row(output)
        text = output.read_text()
        found = json.loads(text) if suffix == ".json" else list(csv.DictReader(text.splitlines()))
        assert [row["error"] for row in found] == ["damaged"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--picture", "{tmp}/file/a.png"],
            "file/a.png cannot be written .*: choose another .* --picture",
        ),
        (["--attention", "{tmp}/folder"], "folder cannot be written .*directory.*with --attention"),
        (["--picture", "{tmp}/a.xyz"], r"--picture \S+a.xyz must end with one of .*\.png"),
        (["--picture", "{tmp}/a.png", "--attention", "{tmp}/a.png"], "are both .*a.png: choose two files"),
        (["--picture", "{tmp}/image.png"], "--picture .*image.png is an input file"),
        (["--detector", "x.pt", "--maps_to", "{tmp}/file"], "file cannot be written .*with --maps_to"),
    ],
)
def test_outputs_are_checked_before_inputs_are_read(say, tmp_path, argv, message):
    """The images are damaged: whoever reads them first says so."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "image.png").write_text("damaged")
    before = sorted(tmp_path.iterdir())
    with pytest.raises((ValueError, OSError), match=message):
        say(*[str(tmp_path / "image.png")] * 2, *(word.format(tmp=tmp_path) for word in argv))
    assert sorted(tmp_path.iterdir()) == before


def test_table_of_captions_is_checked_before_inputs_are_read(say, tmp_path):
    (tmp_path / "pairs.csv").write_text("img_A,img_B\na.png,b.png\n")
    with pytest.raises(OSError, match=r"pairs.csv/out.csv cannot be written .*: choose another .* --output"):
        say("--pairs", str(tmp_path / "pairs.csv"), "--output", str(tmp_path / "pairs.csv" / "out.csv"))
    with pytest.raises(
        ValueError, match=f"--output {tmp_path} is a folder: name a file, such as .*captions.csv"
    ):
        say("--pairs", str(tmp_path / "pairs.csv"), "--output", str(tmp_path))
    with pytest.raises(ValueError, match="--output .*pairs.csv is an input file"):
        say("--pairs", str(tmp_path / "pairs.csv"), "--output", str(tmp_path / "pairs.csv"))


def test_the_next_batch_is_read_while_the_model_captions():
    """And memory holds no third batch."""
    for size in (1, 3):
        begun = set()
        for number, (chosen, read) in enumerate(read_ahead(range(12), begun.add, size)):
            assert chosen == range(number * size, (number + 1) * size)
            assert read == [None] * size
            following = set(range(12)[(number + 1) * size : (number + 2) * size])
            deadline = time.monotonic() + 20
            while not following <= begun and time.monotonic() < deadline:
                time.sleep(0.01)
            assert following <= begun
            assert max(begun) < (number + 2) * size
