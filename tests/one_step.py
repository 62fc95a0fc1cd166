"""Takes one training step and saves the gradients: run by test_processes.py plainly and under torchrun."""

import sys

import torch

import train
from data.dataset import make_loader, open_samples, step_sampler
from models import build_model
from models.optimiser import make_optimiser
from tools.captioning_task import CaptionLoss
from tools.processes import Processes, in_parallel


def main(output: str, *argv: str) -> None:
    torch.set_num_threads(1)
    config, _, _ = train.read_command(list(argv))
    device = torch.device("cpu")
    processes = Processes.join(device)
    samples = open_samples("train", config)
    sampler = step_sampler(samples, config, rank=processes.rank, count=processes.count)
    torch.manual_seed(0)
    model = build_model(config.model, len(samples.reader.vocabulary))
    optimiser = make_optimiser(model, config.train)
    trained = in_parallel(model.train(), processes, device)
    batch = next(iter(make_loader(samples, config.data, batch_sampler=sampler)))
    progress = train.Progress()
    loss = CaptionLoss(samples.reader.vocabulary.pad, config.train.precision)
    train.train_step(trained, batch, loss, optimiser, config.train, progress, processes)
    if processes.writes:
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        torch.save({"gradients": gradients, "loss": progress.loss, "words": progress.count}, output)
    processes.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
