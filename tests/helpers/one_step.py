"""Takes single training steps and saves the results, for test_distributed.py: alone or under torchrun."""

import sys

import torch

import train
from data.dataset import make_loader
from models import build_model
from tests.helpers.tiny import tiny_settings
from tools.engine.captioning_task import CaptionLoss
from tools.engine.device import pick_device
from tools.engine.distributed import Processes, in_parallel
from tools.engine.optimiser import make_optimiser
from tools.engine.training_data import open_samples, step_sampler
from tools.engine.training_steps import Progress, TrainingSteps

FROZEN = {"model.trunk_batchnorm": "frozen", "model.block_batchnorm": "frozen"}
LIVE = {"model.trunk_batchnorm": "live", "model.block_batchnorm": "live"}
CASES = {  # of the 21 pairs with five captions each: the step of the epoch, and settings
    "frozen, 5 and 4 pairs": (0, {**FROZEN, "train.batch_size": 45}),
    "frozen, micro-batches": (0, {**FROZEN, "train.batch_size": 45, "train.accumulate": 3}),
    "live, 5 and 4 pairs": (0, {**LIVE, "train.batch_size": 45}),
    "live, micro-batches": (0, {**LIVE, "train.batch_size": 45, "train.accumulate": 2}),
    "live, micro-batches of one pair": (0, {**LIVE, "train.batch_size": 45, "train.accumulate": 9}),
    "live, a last batch of one pair": (2, {**LIVE, "train.batch_size": 50}),
}


def main(output: str, folder: str, device_name: str = "cpu") -> None:
    torch.set_num_threads(1)
    device = pick_device(device_name)
    processes = Processes.join(device)
    results = {name: one_step(folder, processes, device, *case) for name, case in CASES.items()}
    if processes.writes:
        torch.save(results, output)
    processes.leave()


def one_step(folder: str, processes: Processes, device: torch.device, step: int, settings: dict) -> dict:
    """The gradients, statistics, summed loss and number of words of a step from fixed initial weights."""
    no_dropout = {"model.dropout": 0, "model.embedding_dropout": 0}
    options = tiny_settings(folder, **no_dropout, **settings)
    config, _, _ = train.read_command(["--config", "configs/second_cc.yaml", *options])
    samples = open_samples("train", config)
    sampler = step_sampler(samples, config, rank=processes.rank, count=processes.count)
    sampler.begin(1, step)
    torch.manual_seed(0)
    model = build_model(config.model, len(samples.reader.vocabulary)).double().to(device)
    optimiser = make_optimiser(model, config.train)
    trained = in_parallel(model.train(), processes)
    batch = next(iter(make_loader(samples, config.data, batch_sampler=sampler)))
    progress = Progress()
    loss = CaptionLoss(samples.reader.vocabulary.pad, config.train.precision)
    TrainingSteps(trained, loss, optimiser, config.train, progress, processes).take_and_wait(batch)
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    statistics = {name: value.cpu().clone() for name, value in model.named_buffers() if "running" in name}
    return {
        "gradients": gradients,
        "statistics": statistics,
        "loss": progress.loss,
        "words": progress.count,
        "unequal": differences(statistics, processes),
    }


def differences(statistics: dict[str, torch.Tensor], processes: Processes) -> list[str]:
    """The names of the statistics that differ between processes."""
    first, *others = processes.gather(statistics)
    names = set()
    for other in others:
        names.update(name for name in first if not torch.equal(first[name], other[name]))
    return sorted(names)


if __name__ == "__main__":
    main(*sys.argv[1:])
