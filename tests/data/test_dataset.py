"""Samples: content of batches, workers, controls and augmentation."""

import itertools
import json

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from configs import Config
from data.augmentation import Augmentation
from data.dataset import ChangeCaptions, collate, make_loader, views_of
from data.packed_maps import PackedViews
from data.perturbations import PERTURBATIONS
from data.sampler import SPARE, Draw, StepSampler
from data.settings import DataConfig
from data.splits import map_classes_of, open_split
from data.views import SEVERAL, plain_colours
from tests.conftest import entry, save
from tools import create_input_files
from tools.engine.training_data import open_samples

CPU = torch.device("cpu")


@pytest.fixture
def folder(second_cc_folder, tmp_path):
    entries = [
        entry("0.png", "train", "a house appears", "a house is built"),
        entry("1.png", "train", "no change is occurred", changeflag=0),
        entry("0_random_augment.png", "train", "a house appears"),
        entry("2_random_augment.png", "val", "a house appears"),
    ]
    argv = ["--dataset_dir", str(second_cc_folder(entries)), "--output_dir", str(tmp_path / "input")]
    create_input_files.main([*argv, "--image_size", "16", "--min_word_freq", "0", "--workers", "1"])
    return tmp_path / "input"


def opened(folder, **settings):
    return open_split("train", DataConfig(dir=str(folder), **settings))


def test_samples_with_one_caption(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="one")
    assert len(samples) == 3 * 5
    sample = samples[6]  # second caption of the second pair
    assert sample["views"].shape == (4, 3, 16, 16)
    assert sample["views"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["views"], reader.views(1))
    np.testing.assert_array_equal(sample["tokens"], reader.tokens[1, 1:2])


def test_samples_with_all_captions(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="all")
    assert len(samples) == 3
    np.testing.assert_array_equal(samples[2]["tokens"], reader.tokens[2])


def test_augmented_rows_are_used_only_in_the_configured_splits(folder):
    assert opened(folder)[1] == [0, 1, 2]
    assert opened(folder, augmented_splits=[])[1] == [0, 1]
    with pytest.raises(ValueError, match=r"val.hdf5 has no usable pair.*data.augmented_splits"):
        open_split("val", DataConfig(dir=str(folder)))


def test_void_maps_and_other_pairs_images(folder):
    reader, rows = opened(folder)
    void = ChangeCaptions(reader, rows=rows, captions="none", maps="void")[0]["views"]
    assert reader.views(0)[2:].any()
    assert not void[2:].any()
    np.testing.assert_array_equal(void[:2], reader.views(0)[:2])
    shown = ChangeCaptions(reader, rows=rows, captions="none", images_of=[2, 0, 1])
    for index, source in enumerate([2, 0, 1]):
        np.testing.assert_array_equal(shown[index]["views"], reader.views(source))
        assert shown[index]["index"] == rows[index]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_what_the_main_process_reads(folder, context):
    reader, rows = opened(folder)
    reader.views(0)  # the main process holds the file open
    samples = ChangeCaptions(reader, rows=rows, captions="none")
    settings = {"batch_size": 2, "num_workers": 2, "collate_fn": collate}
    loader = DataLoader(samples, **settings, multiprocessing_context=context)
    views = torch.cat([views_of(batch, CPU) for batch in loader])
    np.testing.assert_array_equal(views, np.stack([reader.views(row) for row in rows]))


def test_order_depends_on_the_seed(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="one")

    def order(seed):
        sampler = StepSampler(len(samples), 4, seed=seed)
        loader = make_loader(samples, DataConfig(workers=0), batch_sampler=sampler)
        return torch.cat([batch["tokens"] for batch in loader])

    assert torch.equal(order(1), order(1))
    assert not torch.equal(order(1), order(2))


def test_spare_sample_contributes_no_loss(folder):
    reader, rows = opened(folder)
    for captions in ("one", "all"):
        sample = ChangeCaptions(reader, rows=rows, captions=captions)[SPARE]
        assert (sample["tokens"] == reader.vocabulary.pad).all()


def test_kept_features_replace_views(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="none")
    kept = torch.stack([samples[index]["views"].float().mean(dim=(-2, -1)) for index in range(3)])
    samples.keep_features(kept)
    expected = torch.from_numpy(reader.views(1)).float().mean(dim=(-2, -1))
    torch.testing.assert_close(samples[1]["features"], expected)


@pytest.fixture
def halves(tmp_path):
    """A pair whose images are red on the left, with captions that say so; every direction word is known."""
    images, left = np.zeros((16, 16, 3), dtype=np.uint8), "a house on the left"
    images[:, :8, 0] = 255
    words = ("the top left", "the right", "at the bottom")
    entries = [entry("0.png", "train", left), entry("1.png", "train", *words)]
    root = tmp_path / "dataset"
    for item, view in itertools.product(entries, ("rgb/A", "rgb/B", "sem/A", "sem/B")):
        save(root / "train" / view / item["filename"], images)
    (root / "SECOND-CC-AUG.json").write_text(json.dumps({"images": entries}))
    argv = ["--dataset_dir", str(root), "--output_dir", str(tmp_path / "halves"), "--image_size", "16"]
    create_input_files.main([*argv, "--min_word_freq", "0", "--workers", "1"])
    return tmp_path / "halves"


def augmented(folder, names, captions="all", seed=1):
    reader, rows = opened(folder)
    augment = Augmentation(names, seed, reader.vocabulary, map_classes_of(reader, names))
    return ChangeCaptions(reader, rows=rows, captions=captions, augment=augment)


def test_captions_of_a_turned_pair_are_turned(halves):
    samples = augmented(halves, ["flips"], captions="one")
    red = {"on the left": np.s_[:, :8], "on the right": np.s_[:, 8:]}
    red |= {"at the top": np.s_[:8], "at the bottom": np.s_[8:]}
    seen = []
    for epoch in range(30):
        sample = samples[Draw(epoch, 0)]
        message = samples.reader.vocabulary.decode(sample["tokens"][0])
        expected = np.zeros((16, 16), dtype=np.uint8)
        expected[red[message.removeprefix("a house ")]] = 255
        for view in sample["views"].numpy():
            np.testing.assert_array_equal(view[0], expected)
        seen.append(message)
    assert len(set(seen)) == 4


def test_pair_is_not_turned_if_turned_words_are_unknown(folder, second_cc_folder, tmp_path):
    root = second_cc_folder([entry("0.png", "train", "a house on the left side")], name="one_word")
    argv = ["--dataset_dir", str(root), "--output_dir", str(tmp_path / "one"), "--image_size", "16"]
    create_input_files.main([*argv, "--min_word_freq", "0", "--workers", "1"])
    samples = augmented(tmp_path / "one", ["flips"])
    upside_down = samples[0]["views"].flip(-2)
    for epoch in range(20):
        sample = samples[Draw(epoch, 0)]
        assert torch.equal(sample["tokens"], samples[0]["tokens"])
        assert torch.equal(sample["views"], samples[0]["views"]) or torch.equal(sample["views"], upside_down)


def test_samples_without_captions_are_always_turned(second_cc_folder, tmp_path):
    root = second_cc_folder([entry("0.png", "train", "a house on the left side")], name="one_word")
    argv = ["--dataset_dir", str(root), "--output_dir", str(tmp_path / "one"), "--image_size", "16"]
    create_input_files.main([*argv, "--min_word_freq", "0", "--workers", "1"])
    samples = augmented(tmp_path / "one", ["flips"], captions="none")
    assert len({samples[Draw(epoch, 0)]["views"].numpy().tobytes() for epoch in range(60)}) == 8


def test_half_of_the_samples_are_perturbed_and_captions_are_kept(folder):
    samples = augmented(folder, ["brightness", "noise"])
    perturbed = 0
    for epoch in range(100):
        sample = samples[Draw(epoch, 1)]
        assert torch.equal(sample["tokens"], samples[1]["tokens"])
        assert torch.equal(sample["views"][2:], samples[1]["views"][2:])
        perturbed += not torch.equal(sample["views"], samples[1]["views"])
    assert 30 < perturbed < 70


def test_augmentation_depends_on_the_epoch_and_not_on_workers(folder):
    def views(workers, epoch=1, step=0, seed=1):
        samples = augmented(folder, ["flips", "noise", "registration"], captions="one", seed=seed)
        sampler = StepSampler(len(samples), 4, seed=1)
        sampler.begin(epoch, step)
        loader = make_loader(samples, DataConfig(workers=workers), batch_sampler=sampler)
        return [views_of(batch, CPU) for batch in loader]

    def same(first, second):
        return all(torch.equal(*pair) for pair in zip(first, second, strict=True))

    whole = views(0)
    assert same(views(2), whole)
    assert same(views(0, step=2), whole[2:])
    samples = augmented(folder, ["noise"])
    drawn = [samples[Draw(epoch, 0)]["views"].numpy().tobytes() for epoch in range(8)]
    assert len(set(drawn)) > 2
    reseeded = augmented(folder, ["noise"], seed=2)
    assert drawn != [reseeded[Draw(epoch, 0)]["views"].numpy().tobytes() for epoch in range(8)]


def test_only_training_is_augmented(folder):
    names = ["flips", *PERTURBATIONS]
    data = DataConfig(dir=str(folder), augment=names, augmented_splits=["train", "val"])
    samples = open_samples("train", Config(data=data))
    assert (samples.augment.names, samples.augment.seed) == (names, Config().train.seed)
    assert open_samples("val", Config(data=data)).augment is None
    assert open_samples("train", Config(data=DataConfig(dir=str(folder)))).augment is None
    for draw in StepSampler(len(samples), 15, seed=1):
        assert all(samples[each]["views"].shape == (4, 3, 16, 16) for each in draw)
    spare = samples[Draw(1, SPARE)]
    assert (spare["tokens"] == samples.reader.vocabulary.pad).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_carry_the_colour_of_plain_views(folder, workers):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="none", maps="void")
    (batch,) = make_loader(samples, DataConfig(workers=workers), batch_size=3)
    assert batch["plain"].dtype == torch.int32
    assert batch["plain"].tolist() == [[SEVERAL, SEVERAL, 0, 0]] * 3


def test_batches_of_kept_features_carry_no_colours(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="none")
    samples.keep_features(torch.rand(3, 4, 3))
    (batch,) = make_loader(samples, DataConfig(workers=0), batch_size=3)
    assert set(batch) == {"features", "index"}


def foreign_colours(folder, path):
    """The input files prepared again with a pixel of another colour in a map of the second pair."""
    dataset = folder.parent / "SECOND_CC_dataset"
    image = dataset / "train" / "sem" / "A" / "1.png"
    pixels = iio.imread(image)
    pixels[3, 5] = (200, 30, 200)
    save(image, pixels)
    argv = ["--dataset_dir", str(dataset), "--output_dir", str(path), "--image_size", "16"]
    create_input_files.main([*argv, "--min_word_freq", "0", "--workers", "1"])
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_maps_are_sent_packed_and_unknown_colours_are_kept(folder, tmp_path, workers):
    for path, names in (
        (folder, {"images", "maps"}),
        (foreign_colours(folder, tmp_path / "other"), {"views"}),
    ):
        reader, rows = opened(path)
        samples = ChangeCaptions(reader, rows=rows, captions="one")
        (batch,) = make_loader(samples, DataConfig(workers=workers), batch_size=len(samples))
        assert set(batch) == {*names, "plain", "index", "tokens"}
        expected = torch.stack([samples[index]["views"] for index in range(len(samples))])
        assert torch.equal(views_of(batch, CPU), expected)
        np.testing.assert_array_equal(expected[5], reader.views(1))
        assert torch.equal(batch["plain"], plain_colours(expected))
        assert samples.all_packed == (names == {"images", "maps"})
    assert expected[5, 2, :, 3, 5].tolist() == [200, 30, 200]


def test_augmentation_of_packed_maps_is_that_of_colours(folder):
    samples = augmented(folder, ["flips", *PERTURBATIONS])
    draws = [Draw(epoch, pair) for epoch in range(40) for pair in range(3)]
    batch = collate(samples.__getitems__(draws))
    actual = views_of(batch, CPU)
    reader = samples.reader
    for index, draw in enumerate(draws):
        views = reader.views(draw.sample)
        altered, _ = samples.augment(PackedViews(views[:2], views[2:]), reader.tokens[draw.sample], *draw)
        np.testing.assert_array_equal(actual[index], np.concatenate(altered))
