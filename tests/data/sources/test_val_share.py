"""A val split made of training pairs."""

import pytest

from data.sources import Pair, source_of, with_val_share


def pair(filename: str, split: str = "train") -> Pair:
    augmented = "_random_augment" in filename
    return Pair(filename, split, (None,) * 4, (("a",),), ("a",), changed=True, augmented=augmented)


TILES = [
    pair(f"{source:02d}_{x}_0{end}.png")
    for source in range(10)
    for x in (0, 256)
    for end in ("", "_random_augment")
]


@pytest.mark.parametrize(("share", "pairs"), [(0.01, 4), (0.1, 4), (0.11, 8), (0.5, 20), (0.99, 36)])
def test_at_least_the_share_of_pairs_moves_with_its_source_images(share, pairs):
    moved = with_val_share([*TILES, pair("99_0_0.png", "test")], share)
    val = [each for each in moved if each.split == "val"]
    assert len(val) == pairs
    sources = {
        split: {source_of(each.filename) for each in moved if each.split == split}
        for split in ("train", "val")
    }
    assert sources["train"].isdisjoint(sources["val"])
    assert [each.filename for each in moved[:-1]] == [each.filename for each in TILES]
    assert moved[-1].split == "test"


def test_the_choice_does_not_depend_on_the_order_of_the_pairs():
    chosen = {each.filename for each in with_val_share(TILES, 0.3) if each.split == "val"}
    assert {each.filename for each in with_val_share(TILES[::-1], 0.3) if each.split == "val"} == chosen


def test_val_share_needs_sources_and_no_val_split():
    with pytest.raises(
        ValueError, match=r"--val_share 0.1 is for data sets without val pairs, this one has some"
    ):
        with_val_share([*TILES, pair("a.png", "val")], 0.1)
    with pytest.raises(ValueError, match="needs training pairs of two source images, got 1: give some pairs"):
        with_val_share(TILES[:2], 0.1)
