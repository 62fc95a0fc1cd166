"""Caption all pairs of a split, and make the entries of captions.json."""

from torch.utils.data import Subset

from configs import Config
from data.dataset import ChangeCaptions, make_loader
from data.splits import Reader
from data.vocabulary import Vocabulary
from models.captioner import inputs_of
from tools.engine.change import fit_temperature
from tools.engine.decoding import CaptionDecoding, DecodedPair
from tools.engine.distributed import Agree, Processes
from tools.engine.progress_bar import progress_bar
from tools.scoring.meteor import Meteor
from tools.scoring.results import CaptionEntry


def predict(
    decoding: CaptionDecoding,
    samples: ChangeCaptions,
    config: Config,
    processes: Processes,
    meteor: Meteor | None = None,
    agree: Agree | None = None,
) -> list[DecodedPair]:
    """The best caption of each pair, in order.

    The pairs are divided among the processes; each process returns all captions. meteor: scores the captions
    of a batch while the next one is decoded. agree: called between batches.
    """
    model, vocabulary = decoding.model.eval(), decoding.vocabulary
    share = Subset(samples, range(processes.rank, len(samples), processes.count))
    loader = make_loader(share, config.data, batch_size=config.decode.batch_size)
    local_captions = []
    bar = progress_bar(description="captioning", total=len(share), unit="pair", shown=processes.writes)
    for batch in processes.in_step(loader, len(samples), agree):
        decoded = decoding.decode(inputs_of(batch, model.device))
        if meteor:
            segments = []
            for pair, row in zip(decoded, batch["index"].tolist(), strict=True):
                caption = vocabulary.decode(pair.captions[0].tokens)
                segments.append((caption, tuple(samples.reader.references[row])))
            meteor.submit(segments)
        local_captions += decoded
        bar.update(len(decoded))
    bar.close()
    captions = [None] * len(samples)
    for rank, captions_of_rank in enumerate(processes.gather(local_captions)):
        captions[rank :: processes.count] = captions_of_rank
    return captions


def temperature_of(decoded: list[DecodedPair], samples: ChangeCaptions) -> float | None:
    """The temperature of the probability of change, fitted on the decoded pairs; None as in
    `fit_temperature`, and if the model can give no no-change sentence."""
    log_odds = [pair.change_log_odds for pair in decoded]
    if None in log_odds:
        return None
    return fit_temperature(log_odds, [bool(samples.reader.changed[row]) for row in samples.rows])


def to_captions(
    decoded: list[DecodedPair], samples: ChangeCaptions, vocabulary: Vocabulary
) -> list[CaptionEntry]:
    """The entries of captions.json without scores, one per pair in order."""
    entries = []
    for row, pair in zip(samples.rows, decoded, strict=True):
        caption, log_prob = vocabulary.decode(pair.captions[0].tokens), pair.captions[0].log_prob
        entry = caption_entry(samples.reader, row, caption, log_prob, pair.change_probability)
        entries.append(entry)
    return entries


def caption_entry(
    reader: Reader,
    row: int,
    caption: str,
    log_prob: float | None = None,
    change_probability: float | None = None,
) -> CaptionEntry:
    """An entry of captions.json without scores: the pair in a row of the file and its caption."""
    numbers = {"log_prob": log_prob, "change_probability": change_probability}
    return {
        "filename": reader.filenames[row],
        "caption": caption,
        **{name: number for name, number in numbers.items() if number is not None},
        "references": reader.references[row],
        "changed": bool(reader.changed[row]),
        **({} if reader.has_human_words else {"references_are": "the stored captions"}),
    }
