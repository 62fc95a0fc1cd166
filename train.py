"""Train MModalCC on the HDF5 files that tools/create_input_files.py wrote.

python train.py --config configs/second_cc.yaml
python train.py --config configs/second_cc.yaml --run_dir runs/short --train.epochs 2
python train.py --config configs/second_cc.yaml --resume

The run folder (default runs/<name of the config>) gets config.yaml, log.jsonl (a line an epoch), TensorBoard
events, val_captions.json, best.pt (the best validation score) and last.pt (where --resume goes on).
"""

import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from tqdm import tqdm

from configs import CommandLine, Config, TrainConfig
from data.dataset import Batch, ChangeCaptions, make_loader, open_split
from data.hdf5 import SplitReader
from eval import predict, to_captions
from models import autocast, build_model, pick_device
from models.mmodalcc import MModalCC
from tools import command
from tools.meteor import Meteor
from tools.metrics import measure
from tools.run_folder import RunFolder

PARTS = ("encoder_rgb", "encoder_sem", "fusion", "decoder")
COMMON_CAPTIONS = 20  # candidates for the floor on changed pairs; a checkpoint carries them


@dataclass
class Progress:
    """How far a run has come. stale: epochs in a row without a strictly better validation score."""

    epoch: int = 0
    step: int = 0
    stale: int = 0
    best: float = float("-inf")


def main(argv: list[str] | None = None) -> None:
    config, run_dir, resume = read_command(argv)
    device = pick_device(config.train.device)
    train_reader, train_rows = open_split("train", config.data)
    val_reader, val_rows = open_split("val", config.data)
    vocabulary = train_reader.vocabulary
    order = torch.Generator()
    loader = train_loader(train_reader, train_rows, config, order)
    val_loader = make_loader(
        ChangeCaptions(val_reader, rows=val_rows, captions="none", void_maps=config.data.maps == "void"),
        config.data,
        batch_size=config.decode.batch_size,
    )
    folder = RunFolder(run_dir, config, resume=resume)

    seed_everything(config.train.seed)
    model = build_model(config.model, len(vocabulary), pretrained=folder.resumed is None).to(device)
    optimiser = make_optimiser(model, config.train)
    progress = restore(folder.resumed, model, optimiser) if folder.resumed else Progress()
    scheduler = make_scheduler(optimiser, config.train, len(loader), progress.step)
    if config.train.keep_features:
        for samples in (loader.dataset, val_loader.dataset):
            samples.keep_features(partial(trunk_features, model, config.train.precision))
    say_what_runs(model, config, device, folder, resume, loader, (val_reader, val_rows))
    common = common_captions(train_reader, train_rows)

    with Meteor() as meteor:
        while progress.epoch < config.train.epochs and progress.stale < config.train.early_stop:
            progress.epoch += 1
            started = time.monotonic()
            decay_decoder(optimiser, config.train, progress.stale)
            order.manual_seed(config.train.seed * 1_000_003 + progress.epoch)
            loss = train_epoch(model, loader, optimiser, scheduler, config.train, vocabulary.pad, progress)

            hypotheses = predict(model, val_loader, vocabulary, config.decode, beam_size=1)
            captions = to_captions(hypotheses, val_reader, val_rows, vocabulary)
            scores = validation_scores(captions, meteor, config.train.select_on)
            score = scores[config.train.select_on]
            best = score > progress.best
            progress.best, progress.stale = max(score, progress.best), 0 if best else progress.stale + 1

            line = {"epoch": progress.epoch, "loss": loss, "val": scores, "best": best}
            line["distinct_captions"] = len({caption["caption"] for caption in captions})
            line["learning_rate"] = {group["part"]: group["lr"] for group in optimiser.param_groups}
            line["seconds"] = round(time.monotonic() - started, 1)
            folder.write_epoch(line, captions)
            content = {
                "model": model.state_dict(),
                "config": config.to_dict(),
                "vocabulary": list(vocabulary.words),
                "common_captions": common,
                "image_size": list(train_reader.image_size),
                "epoch": progress.epoch,
                "scores": scores,
            }
            folder.save(content, training_state(optimiser, progress), best=best)
            say_epoch(line, len(captions))
    print(f"{folder.best}: {config.train.select_on} {progress.best:.1f} on val, {progress.epoch} epochs")


def read_command(argv: list[str] | None) -> tuple[Config, Path, bool]:
    parser = CommandLine(__doc__)
    parser.add_argument("--config", action="config", help="a YAML file, see configs/")
    parser.add_argument("--run_dir", type=Path | None, help="default: runs/<name of the config>")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last.pt")
    config, options = parser.read(argv)
    if not options.config:
        raise ValueError("--config is missing: give a file of configs/, such as configs/second_cc.yaml")
    return config, options.run_dir or Path("runs") / Path(str(options.config[0])).stem, options.resume


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def train_loader(reader: SplitReader, rows: list[int], config: Config, order: torch.Generator) -> DataLoader:
    """Shuffled samples; `train.batch_size` counts captions, so a step of all captions takes fewer pairs."""
    samples = ChangeCaptions(
        reader, rows=rows, captions=config.train.captions_per_step, void_maps=config.data.maps == "void"
    )
    size, per_pair, longest = config.train.batch_size, samples.captions_per_pair, reader.tokens.shape[-1] - 2
    if longest > config.model.max_length:
        raise ValueError(
            f"model.max_length is {config.model.max_length}, {reader.path} has room for {longest} words"
        )
    if config.train.captions_per_step == "all":
        if size < per_pair:
            raise ValueError(f"train.batch_size counts captions, at least one pair's {per_pair}: got {size}")
        size //= per_pair
    return make_loader(samples, config.data, batch_size=size, generator=order)


def make_optimiser(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Adam with a group for each part that learns; sharing a rate until the decoder's decays."""
    groups = []
    for part in PARTS:
        learning = [p for p in getattr(model, part).parameters() if p.requires_grad]
        if learning:
            groups.append({"part": part, "params": learning})
    return torch.optim.Adam(groups, lr=config.learning_rate, fused=True)


def make_scheduler(optimiser: Optimizer, config: TrainConfig, steps: int, done: int) -> OneCycleLR | None:
    """`one_cycle`: a rate for each step of all epochs (`steps` in each, `done` of them taken so far).

    `plateau` has none: see decay_decoder.
    """
    if config.schedule == "plateau":
        return None
    total = config.epochs * steps
    rate = config.learning_rate
    return OneCycleLR(optimiser, max_lr=rate, total_steps=total, cycle_momentum=False, last_epoch=done - 1)


def decay_decoder(optimiser: Optimizer, config: TrainConfig, stale: int) -> None:
    """`plateau`: the decoder's rate alone falls after each `decay_patience` epochs without a better score."""
    if config.schedule == "plateau" and stale and stale % config.decay_patience == 0:
        for group in optimiser.param_groups:
            if group["part"] == "decoder":
                group["lr"] *= config.decay


@torch.inference_mode()
def trunk_features(model: MModalCC, precision: str, views: Tensor) -> Tensor:
    """What the frozen trunks make of views (B, 4, 3, H, W) uint8, kept as bfloat16: (B, 4, C, grid, grid)."""
    device = model.mean.device
    with autocast(device, precision):
        return model.eval().features(views.to(device)).bfloat16()


def train_epoch(
    model: nn.Module, loader: DataLoader, optimiser: Optimizer, scheduler: OneCycleLR | None, config:
    TrainConfig,
    pad: int, progress: Progress,
) -> float:  # fmt: skip
    """One pass over the samples -> mean loss of a word. A loss that is not finite ends the run."""
    model.train()
    total, words = 0.0, 0
    for batch in tqdm(loader, desc=f"epoch {progress.epoch}", unit="step", leave=False):
        loss, count = caption_loss(model, batch, pad, config.precision)
        if not torch.isfinite(loss):
            names = ", ".join(loader.dataset.reader.filenames[i] for i in batch["index"].tolist())
            raise ValueError(
                f"the loss of step {progress.step} is {loss.item()} (pairs {names}): lower the learning rate"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_gradients(optimiser, config)
        optimiser.step()
        if scheduler:
            scheduler.step()
        progress.step += 1
        total, words = total + loss.item() * count, words + count
    return total / words


def caption_loss(model: nn.Module, batch: Batch, pad: int, precision: str) -> tuple[Tensor, int]:
    """Cross-entropy over the next word, mean over the batch's real target words (`<end>` included), and their
    number."""
    device = next(model.parameters()).device
    views = batch["views"].to(device, non_blocking=True)
    tokens = batch["tokens"][..., : int((batch["tokens"] != pad).sum(-1).max())].to(device, non_blocking=True)
    with autocast(device, precision):
        logits = model(views, tokens[..., :-1])  # (B, K, T, V)
    targets = tokens[..., 1:]
    loss = F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=pad)
    return loss, int((targets != pad).sum())


def clip_gradients(optimiser: Optimizer, config: TrainConfig) -> None:
    """Clamp gradient values to +-clip_value (0: not at all); the released code leaves the fusion out."""
    for group in optimiser.param_groups:
        if config.clip_value and (group["part"] != "fusion" or config.clip_fusion):
            nn.utils.clip_grad_value_(group["params"], config.clip_value)


def validation_scores(captions: list[dict[str, Any]], meteor: Meteor, select_on: str) -> dict[str, float]:
    """Corpus scores of the validation captions; ValueError where the one that chooses the model is
    missing."""
    measured = measure([(c["caption"], tuple(c["references"])) for c in captions], meteor)
    scores = {name: float(value) for name, value in measured.scores(np.ones(len(captions))).items()}
    if select_on not in scores:
        raise ValueError(f"train.select_on {select_on} has no value: {measured.reasons().get(select_on)}")
    return scores


def training_state(optimiser: Optimizer, progress: Progress) -> dict[str, Any]:
    """What --resume needs besides the model: optimiser, schedule, progress, and every random generator's
    state."""
    algorithm, keys, *rest = np.random.get_state()
    return {
        "optimiser": optimiser.state_dict(),
        "progress": asdict(progress),
        "random": {
            "python": random.getstate(),
            "numpy": [algorithm, torch.from_numpy(keys.astype(np.int64)), *rest],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
        },
    }


def restore(content: dict[str, Any], model: nn.Module, optimiser: Optimizer) -> Progress:
    """Put a run back to where last.pt was written."""
    training = content["training"]
    model.load_state_dict(content["model"])
    optimiser.load_state_dict(training["optimiser"])
    states = training["random"]
    random.setstate(states["python"])
    algorithm, keys, *rest = states["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    return Progress(**training["progress"])


def common_captions(reader: SplitReader, rows: list[int]) -> list[str]:
    """The commonest human captions of the training pairs, the commonest first."""
    counts = Counter(caption for row in rows for caption in reader.references[row])
    return [caption for caption, _ in counts.most_common(COMMON_CAPTIONS)]


def say_what_runs(model, config, device, folder, resume, loader, val) -> None:
    """The run in a few lines on standard error, before it starts."""
    reader, rows = val
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    lines = [
        f"{folder.path}: {learning / 1e6:.1f} of {every / 1e6:.1f} M parameters learn, on {device}",
        f"{len(loader.dataset)} samples, {len(loader)} steps an epoch, {len(rows)} val pairs",
    ]
    if reader.augmented[rows].any():
        lines.append(
            f"{int(reader.augmented[rows].sum())} of the val pairs are augmented: data.augmented_splits"
        )
    if folder.resumed:
        lines.append(f"resumed after epoch {folder.resumed['epoch']}")
    elif resume:
        lines.append(f"no {folder.last}: starting from the beginning")
    print("\n".join(lines), file=sys.stderr)


def say_epoch(line: dict[str, Any], pairs: int) -> None:
    scores = " ".join(
        f"{name} {value:.1f}" for name, value in line["val"].items() if isinstance(value, float)
    )
    text = f"epoch {line['epoch']}: loss {line['loss']:.3f}, {scores}, {line['seconds']:.0f} s"
    if line["distinct_captions"] == 1 and pairs > 1:
        text += "; COLLAPSED: every validation caption is the same sentence"
    print(text + (" *" if line["best"] else ""), file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
