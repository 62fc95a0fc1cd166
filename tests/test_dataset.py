"""Samples: what a batch holds, with workers of every kind, and the controls."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from configs import DataConfig
from data.dataset import SPARE, ChangeCaptions, StepSampler, make_loader, open_split
from tests.conftest import entry
from tools import create_input_files


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


def test_one_caption_a_sample(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="one")
    assert len(samples) == 3 * 5
    sample = samples[6]  # second caption of the second pair
    assert sample["views"].shape == (4, 3, 16, 16)
    assert sample["views"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["views"], reader.views(1))
    np.testing.assert_array_equal(sample["tokens"], reader.tokens[1, 1:2])


def test_all_captions_a_sample(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="all")
    assert len(samples) == 3
    np.testing.assert_array_equal(samples[2]["tokens"], reader.tokens[2])


def test_augmented_rows_are_used_only_where_the_setting_says_so(folder):
    assert opened(folder)[1] == [0, 1, 2]
    assert opened(folder, augmented_splits=[])[1] == [0, 1]
    with pytest.raises(ValueError, match=r"val.hdf5 holds no pair in use.*data.augmented_splits"):
        open_split("val", DataConfig(dir=str(folder)))


def test_void_maps_and_other_pairs_images(folder):
    reader, rows = opened(folder)
    void = ChangeCaptions(reader, rows=rows, captions="none", void_maps=True)[0]["views"]
    assert reader.views(0)[2:].any()
    assert not void[2:].any()
    np.testing.assert_array_equal(void[:2], reader.views(0)[:2])
    shown = ChangeCaptions(reader, rows=rows, captions="none", images_of=[2, 0, 1])
    for place, source in enumerate([2, 0, 1]):
        np.testing.assert_array_equal(shown[place]["views"], reader.views(source))
        assert shown[place]["index"] == rows[place]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_what_the_main_process_reads(folder, context):
    reader, rows = opened(folder)
    reader.views(0)  # the main process holds the file open
    samples = ChangeCaptions(reader, rows=rows, captions="none")
    loader = DataLoader(samples, batch_size=2, num_workers=2, multiprocessing_context=context)
    views = torch.cat([batch["views"] for batch in loader])
    np.testing.assert_array_equal(views, np.stack([reader.views(row) for row in rows]))


def test_order_is_the_seeds(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="one")

    def order(seed):
        sampler = StepSampler(len(samples), 4, seed=seed)
        loader = make_loader(samples, DataConfig(workers=0), batch_sampler=sampler)
        return torch.cat([batch["tokens"] for batch in loader])

    assert torch.equal(order(1), order(1))
    assert not torch.equal(order(1), order(2))


def test_a_spare_sample_counts_for_nothing(folder):
    reader, rows = opened(folder)
    for captions in ("one", "all"):
        sample = ChangeCaptions(reader, rows=rows, captions=captions)[SPARE]
        assert (sample["tokens"] == reader.vocabulary.pad).all()


def test_kept_features_stand_in_for_views(folder):
    reader, rows = opened(folder)
    samples = ChangeCaptions(reader, rows=rows, captions="none")
    samples.keep_features(lambda views: views.float().mean(dim=(-2, -1)))
    expected = torch.from_numpy(reader.views(1)).float().mean(dim=(-2, -1))
    torch.testing.assert_close(samples[1]["views"], expected)
