"""The examples of docs/data.md: each data set is written as the page shows it, and prepared."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from data.errors import UserError
from data.sources import read_dataset
from tests.conftest import save
from tools import create_input_files

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Accepted formats\n")[2].partition("\n## ")[0]
EXAMPLE = re.compile(r"```text\n(?P<images>.*?)```(?P<files>(?:\s+`[^`]+`:\n\n```\w+\n.*?```)+)", re.DOTALL)
FILE = re.compile(r"`([^`]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)
PAIRS = {
    "LevirCCcaptions.json": ["train", "val", "test"],
    "description_jsontr_te_val/Train_captions.json": ["train", "val"],
    "captions.json": ["train", "val"],
    "annotations/captions.json": ["train", "val"],
    "pairs.csv": ["train", "val"],
    "RSCC_qvq.jsonl": ["train", "train"],
    "ChangeChat.json": ["train", "val"],
}
EXAMPLES = list(EXAMPLE.finditer(SECTION))


def expanded(pattern: str) -> list[str]:
    """`{a,b}/1.png` -> a/1.png, b/1.png."""
    parts = [part.split(",") for part in re.split(r"\{([^}]*)\}", pattern)]
    parts[::2] = [[",".join(part)] for part in parts[::2]]
    return ["".join(choice) for choice in product(*parts)]


def written(example: re.Match, root: Path) -> list[str]:
    """Write the images and files of an example; returns the names of the files."""
    for number, path in enumerate(path for line in example["images"].split() for path in expanded(line)):
        is_map = re.search("sem|label|maps", path)
        save(root / path, np.full((16, 16, 3), 0 if is_map else 20 + number, dtype=np.uint8))
    files = FILE.findall(example["files"])
    for name, text in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return [name for name, _ in files]


def test_every_accepted_format_has_an_example():
    titles = re.findall(r"^### (.*)", SECTION, re.MULTILINE)
    assert titles[-1] == "Refused"
    assert len(EXAMPLES) == len(titles)  # the last has none, ChangeChat has two


@pytest.mark.filterwarnings("ignore:ImageIO's vendored tifffile")
@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[FILE.findall(example["files"])[0][0] for example in EXAMPLES]
)
def test_the_example_is_read_and_prepared(tmp_path, capsys, example):
    names = written(example, tmp_path / "dataset")
    dataset = read_dataset(tmp_path / "dataset")
    splits = [pair.split for pair in dataset.pairs]
    assert splits == (["train", "test"] if "image_A" in example["files"] else PAIRS[names[0]])
    folders = f"--dataset_dir {tmp_path / 'dataset'} --output_dir {tmp_path / 'input'}"
    arguments = f"{folders} --image_size 16 --min_word_freq 0 --workers 1"
    create_input_files.main(arguments.split())
    printed = capsys.readouterr()
    assert printed.out.startswith(f"layout: {dataset.layout}\n")
    assert ("splits without pairs" in printed.err) == (set(splits) != {"train", "val", "test"})
    assert "another name" not in printed.err


def levir(**fields: object) -> str:
    """LEVIR-CC's JSON of a train and a test pair, the first one with `fields`."""
    sentences = [{"raw": "a house appears"}]
    first = {"filename": "1.png", "split": "train", "sentences": sentences, **fields}
    return json.dumps({"images": [first, {"filename": "2.png", "split": "test", "sentences": sentences}]})


QUESTION = [{"value": "Has it changed?"}, {"value": "Yes"}]
COCO = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "a house"}]}
REFUSED = {  # message -> a file and its content
    "but no captions file: write": ("readme.txt", ""),
    "holds captions in the form of COCO's results, without the images": (
        "a.json",
        json.dumps(COCO["annotations"]),
    ),
    "COCO's captions JSON names no split": ("a.json", json.dumps(COCO)),
    "use the captions file of COCO, not its instances or key points": (
        "instances.json",
        json.dumps({**COCO, "annotations": [{"image_id": 1, "bbox": []}]}),
    ),
    "must hold one captions file, or one per split": ("b.json", levir()),
    "at least one first question must ask to describe the changes": (
        "a.json",
        json.dumps([{"image": ["train/A/1.png", "train/B/1.png"], "conversations": QUESTION}]),
    ),
    "must have the columns img_A, img_B, caption and split": (
        "a.csv",
        "before,after\n1,2\n",
    ),
    "must be text in UTF-8 or UTF-16": ("a.json", levir().replace("house", "\u00e9glise").encode("latin-1")),
    "the words of a sentence must be separated by blanks": (
        "a.json",
        levir(sentences=[{"raw": "\u65b0\u623f\u5b50"}]),
    ),
    "a pair of train or val needs captions": ("a.json", levir(sentences=[])),
    "all splits or none must have maps of the second date": ("a.json", levir()),
}


def test_the_table_of_refused_files_is_complete():
    assert re.findall(r"\| `([^`]+)` \|$", SECTION.partition("### Refused")[2], re.MULTILINE) == list(REFUSED)


@pytest.mark.parametrize("message", REFUSED)
def test_files_in_the_table_are_refused_with_its_message(tmp_path, message):
    for path in expanded("{train,test}/{A,B}/{1,2}.png") + expanded("train/label/{1,2}.png"):
        save(tmp_path / path, np.zeros((2, 2), dtype=np.uint8))
    name, content = REFUSED[message]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if name == "b.json":
        (tmp_path / "a.json").write_text(levir())
    with pytest.raises(UserError) as error:
        read_dataset(tmp_path)
    assert message in str(error.value)
