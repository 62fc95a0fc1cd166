"""Each layout of docs/data.md: recognised, read into pairs, refused with the rule and the remedy."""

import json
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from data.sources import Dataset, read_dataset

HOUSE, SAME = "a house appears", "there is no difference"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a data set: empty images at `paths`, and files with text, JSON or JSON lines."""

    def write(paths: str, **files: object) -> Path:
        root = tmp_path / "dataset"
        for path in paths.split():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return root

    return write


def item(filename: str, split: str | None, *captions: str, **fields: object) -> dict:
    sentences = [{"raw": caption} for caption in captions]
    named = {} if split is None else {"split": split}
    return {"filename": filename, **named, "sentences": sentences, **fields}


def images(*items: dict) -> dict:
    return {"images": list(items)}


def views(dataset: Dataset, root: Path) -> list[str]:
    """The views and the label of the first pair, relative to the folder; - for a void map."""
    pair = dataset.pairs[0]
    return [str(path.relative_to(root)) if path else "-" for path in (*pair.views, pair.label)]


@pytest.mark.parametrize(
    ("paths", "expected", "layout"),
    [
        (
            "train/rgb/A/1.png train/rgb/B/1.png",
            "train/rgb/A train/rgb/B - - -",
            "rgb/A and rgb/B of SECOND-CC, no maps",
        ),
        (
            "images/train/A/1.png images/train/B/1.png",
            "images/train/A images/train/B - - -",
            "A and B of LEVIR-CC, no maps",
        ),
        (
            "images/train/A/1.png images/train/B/1.png images/train/label/1.png images/train/label_rgb/1.png",
            "images/train/A images/train/B - - images/train/label",
            "A and B of LEVIR-CC, maps in label",
        ),
        (
            "images/train/A/1.png images/train/B/1.png images/train/label_rgb/1.png",
            "images/train/A images/train/B - - images/train/label_rgb",
            "A and B of LEVIR-CC, maps in label_rgb",
        ),
        ("A/1.png B/1.png label/1.png", "A B - - label", "A and B of LEVIR-CC, maps in label"),
        (
            "train/A/1.png train/B/1.png train/label/1.png",
            "train/A train/B - - train/label",
            "A and B of LEVIR-CC, maps in label",
        ),
        (
            "train/im1/1.png train/im2/1.png train/label1/1.png train/label2/1.png",
            "train/im1 train/im2 train/label1 train/label2 -",
            "im1 and im2 of SECOND, maps in label1 and label2",
        ),
        ("im1/1.png im2/1.png label2/1.png", "im1 im2 - label2 -", "im1 and im2 of SECOND, maps in label2"),
        (
            "imgs_tiles/RGB/500_2000/1.png imgs_tiles/RGB/500_2010/1.png",
            "imgs_tiles/RGB/500_2000 imgs_tiles/RGB/500_2010 - - -",
            "imgs_tiles/RGB/500_2000 and imgs_tiles/RGB/500_2010 of Dubai-CC, no maps",
        ),
    ],
)
def test_folders_of_images_are_recognised(folder, paths, expected, layout):
    root = folder(paths, **{"captions.json": images(item("1.png", "train", HOUSE))})
    dataset = read_dataset(root)
    assert views(dataset, root) == [name if name == "-" else f"{name}/1.png" for name in expected.split()]
    assert dataset.layout == f"LEVIR-CC's JSON (captions.json), images in the folders {layout}"
    assert dataset.warnings == []


def test_dubai_cc_has_one_json_per_split(folder):
    tiles = " ".join(f"imgs_tiles/RGB/500_{year}/{n}.tif" for year in (2000, 2010) for n in (1, 2, 3))
    files = {
        f"description_jsontr_te_val/{name}_BI_Des.json": images(item(f"{n}.tif", None, HOUSE))
        for n, name in enumerate(("Train", "Validation", "Test"), 1)
    }
    dataset = read_dataset(folder(tiles, **files))
    assert {pair.filename: pair.split for pair in dataset.pairs} == {
        "1.tif": "train",
        "2.tif": "val",
        "3.tif": "test",
    }
    assert dataset.layout.startswith("LEVIR-CC's JSON (Test_BI_Des.json and Train_BI_Des.json and Validation")


def test_whu_cdc_names_the_split_in_filepath_and_defines_the_class_of_its_masks(folder):
    paths = "images/val/A/val_1.tif images/val/B/val_1.tif images/val/label/val_1.tif"
    content = images(item("val_1.png", None, HOUSE, filepath="val"))
    dataset = read_dataset(folder(paths, **{"whuCCcaptions.json": content}))
    assert (dataset.pairs[0].split, dataset.mask_class) == ("val", "building")
    assert (
        dataset.warnings[0]
        .line(with_examples=True)
        .startswith("images found under another name than the data set gives: 3 (images/val")
    )


COCO = {
    "images": [{"id": 7, "file_name": "1.png"}, {"id": 8, "file_name": "2.png"}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A house appears."},
        {"id": 2, "image_id": 8, "caption": SAME},
        {"id": 3, "image_id": 7, "caption": "a new house"},
    ],
}
COCO_IMAGES = "train/A/1.png train/B/1.png train/A/2.png train/B/2.png"


@pytest.mark.parametrize("name", ["captions_train2017.json", "annotations/captionsTrain.json", "TRAIN.json"])
def test_coco_captions_take_the_split_from_the_file_name(folder, name):
    dataset = read_dataset(folder(COCO_IMAGES, **{name: COCO}))
    first, second = dataset.pairs
    assert first.captions == (("a", "house", "appears"), ("a", "new", "house"))
    assert (first.split, second.split, first.changed, second.changed) == ("train", "train", True, False)
    assert dataset.layout.startswith(f"COCO's captions JSON ({Path(name).name})")


def test_coco_captions_may_name_the_split_of_each_image(folder):
    content = {**COCO, "images": [{**image, "split": "train", "changeflag": 1} for image in COCO["images"]]}
    assert [pair.changed for pair in read_dataset(folder(COCO_IMAGES, **{"a.json": content})).pairs] == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (COCO, "COCO's captions JSON names no split: give each of `images` a `split`"),
        (
            {**COCO, "images": COCO["images"][:1]},
            "1 are not, such as '8': use annotations and images that belong",
        ),
        (
            {**COCO, "annotations": [{"image_id": 7, "bbox": []}]},
            "use the captions file of COCO, not its instances",
        ),
        ({**COCO, "annotations": {}}, "COCO's `annotations` must be a list of objects"),
        (
            COCO["annotations"],
            "holds captions in the form of COCO's results, without the images: give COCO's",
        ),
    ],
)
def test_invalid_coco_captions_are_refused(folder, content, rule):
    with pytest.raises(ValueError, match=rf"captions\.json.* {rule}"):
        read_dataset(folder(COCO_IMAGES, **{"captions.json": content}))


TABLE = f"""img_A,img_B,seg_A,seg_B,caption,split,changeflag,source
a/1.png,b/1.png,m/1.png,n/1.png,{HOUSE},train,1,
a/1.png,b/1.png,m/1.png,n/1.png,"a house, new",train,1,
a/2.png,b/2.png,m/2.png,n/2.png,{SAME},test,,scene 3
"""
TABLE_IMAGES = " ".join(f"{kind}/{number}.png" for kind in "abmn" for number in (1, 2))


@pytest.mark.parametrize("named", [False, True])
def test_rows_of_a_table_with_the_same_images_are_one_pair(folder, named):
    root = folder(TABLE_IMAGES, **{"pairs.csv": TABLE})
    dataset = read_dataset(root / "pairs.csv" if named else root)
    first, second = dataset.pairs
    assert first.captions == (("a", "house", "appears"), ("a", "house", "new"))
    assert [first.filename, first.split, first.flagged, first.source] == ["1.png", "train", True, None]
    assert [second.filename, second.split, second.flagged, second.source] == [
        "2.png",
        "test",
        False,
        "scene 3",
    ]
    assert not second.changed
    assert views(dataset, root) == ["a/1.png", "b/1.png", "m/1.png", "n/1.png", "-"]
    assert dataset.layout == "a table of pairs (pairs.csv), images in the paths that it gives"


def test_a_table_may_have_semicolons(folder):
    text = f"img_A;img_B;caption;split\na/1.png;b/1.png;{HOUSE}, new;val\n"
    (pair,) = read_dataset(folder(TABLE_IMAGES, **{"pairs.csv": text})).pairs
    assert pair.captions == (("a", "house", "appears", "new"),)


def test_a_table_may_be_json(folder):
    row = {"img_A": "a/1.png", "img_B": "b/1.png", "caption": HOUSE, "split": "val", "changeflag": 0}
    (pair,) = read_dataset(folder(TABLE_IMAGES, **{"pairs.json": [row]})).pairs
    assert (pair.changed, pair.flagged, pair.views[2:]) == (False, True, (None, None))


def test_pairs_of_a_table_with_the_same_file_name_are_named_by_their_path(folder):
    rows = f"img_A,img_B,caption,split\nx/A/1.png,x/B/1.png,{HOUSE},val\ny/A/1.png,y/B/1.png,{HOUSE},val\n"
    root = folder("x/A/1.png x/B/1.png y/A/1.png y/B/1.png", **{"pairs.csv": rows})
    assert [pair.filename for pair in read_dataset(root).pairs] == ["x/A/1.png", "y/A/1.png"]
    series = f"img_A,img_B,caption,split\n1.png,2.png,{HOUSE},val\n1.png,3.png,{HOUSE},val\n"
    root = folder("1.png 2.png 3.png", **{"pairs.csv": series})
    assert [pair.filename for pair in read_dataset(root).pairs] == ["1.png 2.png", "1.png 3.png"]


def test_absolute_paths_and_backslashes_of_a_table_are_found(folder, tmp_path):
    root = folder("a/1.png", **{"pairs.csv": ""})
    (tmp_path / "2.png").touch()
    (root / "pairs.csv").write_text(
        f"Img_A, img_B ,caption,split\na\\1.png,{tmp_path / '2.png'},{HOUSE},train\n"
    )
    (pair,) = read_dataset(root).pairs
    assert pair.views[:2] == (root / "a" / "1.png", tmp_path / "2.png")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "before,after\n1.png,2.png\n",
            r"must have the columns img_A, img_B, .* got before, after: docs/data\.md",
        ),
        ("", "must have the columns .* got no row"),
        (
            TABLE.replace(",train,1,\n", ",val,1,\n", 1),
            r"row 2: all rows of a pair must have the same split, got 'train'",
        ),
        (TABLE.replace("a/2.png,", ","), "row 3: a pair needs the paths of two images, .* got"),
        ("img_A,img_B,split,caption\n1.png,2.png,val,a house, new\n", "cells, as the header, .* in quotes"),
        (TABLE.replace(",test,", ",dev,"), r"row 3 \(2\.png\): `split` must be one of train, .* got 'dev'"),
        (TABLE.replace(",test,,", ",test,no,"), r"row 3 \(2\.png\): `changeflag` must be 0 or 1, got 'no'"),
    ],
)
def test_invalid_tables_are_refused(folder, text, rule):
    with pytest.raises(ValueError, match=rf"pairs\.csv.* {rule}"):
        read_dataset(folder(TABLE_IMAGES, **{"pairs.csv": text}))


RSCC = [
    {"pre_image": "fire/1_pre.png", "post_image": "fire/1_post.png", "change_caption": "Houses burnt down."},
    {"pre_image": "fire/2_pre.png", "post_image": "fire/2_post.png", "change_caption": "A road is blocked."},
]
RSCC_IMAGES = "fire/1_pre.png fire/1_post.png fire/2_pre.png fire/2_post.png"


def lines(items: list[dict]) -> str:
    return "".join(json.dumps(item) + "\n\n" for item in items)


def test_rscc_without_splits_counts_as_train_with_a_warning(folder):
    root = folder(RSCC_IMAGES, **{"RSCC_qvq.jsonl": lines(RSCC)})
    dataset = read_dataset(root)
    assert [(pair.filename, pair.split) for pair in dataset.pairs] == [
        ("1_pre.png", "train"),
        ("2_pre.png", "train"),
    ]
    assert dataset.pairs[0].captions == (("houses", "burnt", "down"),)
    assert (
        dataset.warnings[0]
        .line(with_examples=True)
        .startswith(
            "pairs without `split`, which count as train: 2 (fire/1_pre.png; fire/2_pre.png): give `split`"
        )
    )


def test_rscc_with_splits(folder):
    files = {"test.jsonl": lines(RSCC[:1]), "other_train.jsonl": lines([{**RSCC[1], "split": "val"}])}
    dataset = read_dataset(folder(RSCC_IMAGES, **files))
    assert {pair.filename: pair.split for pair in dataset.pairs} == {"1_pre.png": "test", "2_pre.png": "val"}
    assert dataset.warnings == []


def test_line_separators_of_unicode_do_not_end_a_line(folder):
    text = json.dumps({**RSCC[0], "split": "test", "change_caption": "a\u2028house"}, ensure_ascii=False)
    assert read_dataset(folder(RSCC_IMAGES, **{"a.jsonl": text})).pairs[0].captions == (("a", "house"),)


def test_a_line_that_is_not_json_is_named(folder):
    root = folder(RSCC_IMAGES, **{"RSCC_qvq.jsonl": lines(RSCC)[:-10]})
    with pytest.raises(ValueError, match=r"RSCC_qvq\.jsonl, line 3, is not JSON"):
        read_dataset(root)


def conversation(number: int, question: str, answer: str, split: str = "train", **fields: object) -> dict:
    name = f"{split}_{number:06d}.png"
    turns = [{"from": "human", "value": f"<image> <image> {question}"}, {"from": "gpt", "value": answer}]
    return {
        "id": number,
        "image": [f"{split}/A/{name}", f"{split}/B/{name}"],
        "conversations": turns,
        **fields,
    }


DESCRIBE = "Please briefly describe the changes in these two images."
CHANGECHAT = [
    conversation(1, DESCRIBE, "A house appears.", changeflag=1),
    conversation(1, "Please judge whether these two images have changed.", "Yes", changeflag=1),
    conversation(1, DESCRIBE, "a villa is built", changeflag=1),
    conversation(2, DESCRIBE, SAME, "test", changeflag=0),
]
CHANGECHAT_TEST = [
    {"image_A": "test/A/9.png", "image_B": "test/B/9.png", "captions": [HOUSE] * 5, "changeflag": 1}
]
CHANGECHAT_IMAGES = (
    "images/train/A/train_000001.png images/train/B/train_000001.png "
    "images/test/A/test_000002.png images/test/B/test_000002.png"
)


def test_changechat_conversations_that_ask_to_describe_give_captions(folder):
    dataset = read_dataset(folder(CHANGECHAT_IMAGES, **{"changechat.json": CHANGECHAT}))
    first, second = dataset.pairs
    assert first.captions == (("a", "house", "appears"), ("a", "villa", "is", "built"))
    assert (first.split, second.split, first.changed, second.changed) == ("train", "test", True, False)
    (warning,) = dataset.warnings
    assert "question does not ask to describe the changes, which are not used: 1" in warning.problem
    assert warning.examples == ["[1] Please judge whether these two images have changed."]


def test_the_caption_test_of_changechat(folder):
    dataset = read_dataset(folder("test/A/9.png test/B/9.png", **{"captions.json": CHANGECHAT_TEST}))
    (pair,) = dataset.pairs
    assert (pair.split, pair.changed, len(pair.captions)) == ("test", True, 5)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (CHANGECHAT[1:2], "at least one first question must ask to describe the changes, none does"),
        (
            [{**CHANGECHAT[0], "image": "1.png"}],
            r"\[0\]: `image` must list the paths of two images, got '1\.png'",
        ),
        (
            [{**CHANGECHAT[0], "conversations": []}],
            r"\[0\]: `conversations` must begin with a question and its answer",
        ),
        (
            [*CHANGECHAT, {**CHANGECHAT[0], "changeflag": 0}],
            "all rows of a pair must have the same changeflag, got 0",
        ),
        ([{**CHANGECHAT_TEST[0], "captions": HOUSE}], r"\[0\]: `captions` must be a list of sentences"),
        (
            [conversation(1, DESCRIBE, HOUSE, "all")],
            "`split` must be one of .* got None: give it, or write one",
        ),
    ],
)
def test_invalid_conversations_are_refused(folder, content, rule):
    with pytest.raises(ValueError, match=rf"captions\.json: .*{rule}"):
        read_dataset(folder(CHANGECHAT_IMAGES, **{"captions.json": content}))


@pytest.mark.parametrize(
    ("paths", "rule"),
    [
        ("im1/1.png im2/1.png label1/1.png label2/1.png", r"image pairs \(im1 and im2, as SECOND has\)"),
        ("train/im1/1.png train/im2/1.png", r"image pairs \(im1 and im2 in train, as SECOND has\)"),
        ("A/1.png B/1.png label/1.png", r"image pairs \(A and B, as LEVIR-CD has\)"),
        ("test/A/1.png test/B/1.png test/label/1.png", r"image pairs \(A and B in test, as LEVIR-CD has\)"),
        ("images/val/A/1.png images/val/B/1.png", r"image pairs \(A and B in images/val, as LEVIR-CD has\)"),
        ("val/rgb/A/1.png val/rgb/B/1.png", r"image pairs \(rgb/A and rgb/B in val\)"),
    ],
)
def test_image_pairs_without_captions_are_recognised(folder, paths, rule):
    with pytest.raises(
        ValueError, match=f"holds {rule} but no captions file: write .*captions.json"
    ) as error:
        read_dataset(folder(paths))
    assert error.match(r"to caption the pairs with a trained model, use caption\.py --pairs")


def test_captions_in_a_folder_below_are_named(folder):
    root = folder("", **{"data/captions.json": images(item("1.png", "train", HOUSE))})
    with pytest.raises(
        FileNotFoundError, match=r"holds no \*\.json.* but data: .* --dataset_dir .*dataset/data"
    ):
        read_dataset(root)


def test_captions_in_utf_16_are_read(folder):
    root = folder("A/1.png B/1.png")
    content = images(item("1.png", "train", "une maison appara\u00eet"))
    (root / "captions.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("utf-16"))
    assert read_dataset(root).pairs[0].captions == (("une", "maison", "appara\u00eet"),)
    (root / "captions.json").write_bytes(json.dumps(content, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"captions\.json must be text in UTF-8 or UTF-16 .*: save it as UTF-8"
    ):
        read_dataset(root)


def test_pairs_of_train_and_val_without_captions_are_an_error_that_lists_them(folder):
    content = images(item("1.png", "train"), item("2.png", "val", " . "), item("3.png", "train", HOUSE))
    with pytest.raises(
        ValueError, match=r"needs captions .* missing for 2: train 1\.png; val 2\.png: add captions"
    ):
        read_dataset(folder("A/1.png B/1.png", **{"captions.json": content}))


def test_a_data_set_without_any_caption_is_pointed_to_caption_py(folder):
    content = images(item("1.png", "test"), item("2.png", "test"))
    with pytest.raises(
        ValueError, match=r"must hold captions, got none for 2 pairs: .*use caption\.py --pairs"
    ):
        read_dataset(folder("A/1.png B/1.png A/2.png B/2.png", **{"captions.json": content}))


JSON_VALUES = st.recursive(
    st.sampled_from([None, True, 0, -3.5, "", "x", "../x", "/x", "a\0", "\ud800", "train", "\u65b0\u623f"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["raw", "value"]), inner),
    max_leaves=4,
)
FORMS = {
    "a.json": [
        images(item("1.png", "train", HOUSE, changeflag=1, source="x")),
        COCO,
        CHANGECHAT,
        CHANGECHAT_TEST,
    ],
    "b.json": [[{"img_A": "A/1.png", "img_B": "B/1.png", "caption": HOUSE, "split": "val", "changeflag": 1}]],
    "c.json": [RSCC],
}


def changed_somewhere(content: object, draw: Callable, value: object) -> object:
    """The content with `value` at a random place."""
    if isinstance(content, dict | list) and content and draw(st.booleans()):
        key = draw(st.sampled_from(list(content) if isinstance(content, dict) else range(len(content))))
        changed = content.copy()
        changed[key] = changed_somewhere(content[key], draw, value)
        return changed
    return value


@given(data=st.data())
@hypothesis.settings(max_examples=100, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_invalid_value_ends_in_one_line(folder, data):
    name, contents = data.draw(st.sampled_from(list(FORMS.items())))
    content = changed_somewhere(data.draw(st.sampled_from(contents)), data.draw, data.draw(JSON_VALUES))
    message = ""
    try:
        read_dataset(folder("A/1.png B/1.png", **{name: json.dumps(content)}) / name)
    except (UserError, FileNotFoundError) as error:
        message = str(error)
    assert "\n" not in message
