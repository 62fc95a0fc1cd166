"""Kept features: shared memory of all processes of a machine, and an error if they do not fit."""

import multiprocessing
import os

import pytest
import torch
import torch.distributed as dist

from configs import DataConfig
from data.dataset import ChangeCaptions
from data.splits import open_split
from tools.engine.distributed import Processes
from tools.engine.kept_features import available_memory, keep_features

pytestmark = pytest.mark.integration


def opened(folder, split):
    reader, rows = open_split(split, DataConfig(dir=str(folder)))
    return ChangeCaptions(reader, rows=rows, captions="none")


def means(views):
    """(1, 4, 3, H, W) -> (1, 4, 3) bfloat16."""
    return views.float().mean(dim=(-2, -1)).bfloat16()


def test_every_pair_gets_its_features_and_no_file_remains(demo_input, tmp_path):
    samples, val_samples = opened(demo_input, "train"), opened(demo_input, "val")
    splits = (samples, val_samples)
    expected = []
    for split in splits:
        expected.append([means(sample["views"].unsqueeze(0))[0] for sample in split])
    keep_features(splits, means, tmp_path / "run", Processes())
    for split, features_of_split in zip(splits, expected, strict=True):
        for index, features in enumerate(features_of_split):
            assert torch.equal(split[index]["features"], features)
            assert split[index]["features"].dtype == torch.bfloat16
    assert list((tmp_path / "run").iterdir()) == []


def test_features_that_do_not_fit_are_refused_in_one_line(demo_input, tmp_path):
    samples = opened(demo_input, "train")

    def large(views):
        return torch.zeros(1, 1).expand(1, 10**9)

    with pytest.raises(
        ValueError,
        match=r"keep_features needs 42\.0 GB .* 2\.0 GB are available: give --train\.keep_features false",
    ):
        keep_features([samples], large, tmp_path, Processes(), available=2 * 10**9)
    assert list(tmp_path.iterdir()) == []


def share(folder, run, rank, port, results):
    """One of two processes: which pairs it computed, and what it finds for all of them."""
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{port}", rank=rank, world_size=2)
    samples, computed = opened(folder, "train"), []

    def features(views):
        computed.append(1)
        return means(views)

    keep_features([samples], features, run, Processes(rank, 2))
    actual = [samples[index]["features"].tolist() for index in range(len(samples))]
    resident = len(list(run.iterdir()))
    results.put((len(computed), actual, resident))
    dist.barrier()


def test_two_processes_share_the_work_and_the_memory(demo_input, tmp_path):
    (tmp_path / "run").mkdir()
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    argv = (demo_input, tmp_path / "run")
    both = [
        context.Process(target=share, args=(*argv, rank, tmp_path / "meet", results)) for rank in range(2)
    ]
    for process in both:
        process.start()
    answers = [results.get(timeout=120) for _ in both]
    for process in both:
        process.join()
    samples = opened(demo_input, "train")
    expected = [means(each["views"].unsqueeze(0))[0].tolist() for each in samples]
    half = (len(samples) + 1) // 2
    for computed, actual, files in answers:
        assert computed - 1 in (half, len(samples) - half)  # one more for the shape
        assert actual == expected
        assert files == 0


def test_the_available_memory_is_known_on_linux():
    assert available_memory() is None or available_memory() > 10**6
