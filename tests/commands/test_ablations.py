"""Ablations: removed parts are not built, removed views are not used, the rest works as before."""

import json

import pytest
import torch

from data.errors import UserError
from models.decoder import UngatedAttention
from tests.conftest import CONFIGS
from tests.helpers.tiny import ABLATED, END, START, random_tokens, random_views, tiny_model, tiny_settings
from tests.models.test_attention import VOCABULARY
from tools import run_ablations, run_seeds
from tools.engine.predictor import explain_caption
from tools.run_ablations import ABLATIONS, as_options, read_ablations
from tools.run_seeds import read_settings

EACH = pytest.mark.parametrize("name", ABLATED)
ALONE = pytest.mark.parametrize(("name", "own", "others"), [("rgb", [0, 1], [2, 3]), ("sem", [2, 3], [0, 1])])


def with_other(views: torch.Tensor, positions: list[int]) -> torch.Tensor:
    """Copies of the views in which those at `positions` are replaced."""
    changed = views.clone()
    changed[:, positions] = 255 - changed[:, positions]
    return changed


@EACH
@pytest.mark.parametrize("sharing", ["separate", "shared"])
def test_every_parameter_gets_a_gradient(name, sharing):
    model = tiny_model(**ABLATED[name], sharing=sharing).train()
    model(random_views(3), random_tokens(3, 2, 6)).square().sum().backward()
    learning = [(parameter, p) for parameter, p in model.named_parameters() if p.requires_grad]
    assert not [parameter for parameter, p in learning if p.grad is None]


@torch.no_grad()
@EACH
def test_a_captions_score_is_its_teacher_forced_log_probability(name):
    model, views = tiny_model(**ABLATED[name]).eval(), random_views(4)
    actual = model.caption(views, start=START, end=END, beam_size=3, best=3)
    for pair, answers in enumerate(actual):
        for answer in answers:
            target = answer.tokens + [END] * answer.finished
            logits = model(views[pair : pair + 1], torch.tensor([[START, *target[:-1]]]))[0]
            expected = logits.log_softmax(-1)[torch.arange(len(target)), target].sum().item()
            assert answer.log_prob == pytest.approx(expected, abs=1e-3)


@torch.no_grad()
@ALONE
def test_single_modality_depends_only_on_its_views(name, own, others):
    model, views, tokens = tiny_model(modalities=name).eval(), random_views(2), random_tokens(2, 6)
    logits = model(views, tokens)
    torch.testing.assert_close(model(with_other(views, others), tokens), logits, rtol=0, atol=0)
    for index in own:
        assert not torch.allclose(model(with_other(views, [index]), tokens), logits, atol=1e-4)
    features = model.features(views)
    assert features.shape[1] == 2
    torch.testing.assert_close(model.fuse(features), model.encode(views))
    assert model.encode(views).shape == (2, 1, 9, 32)


@ALONE
def test_absent_modality_has_no_modules(name, own, others):
    absent = {"rgb": "sem", "sem": "rgb"}[name]
    model = tiny_model(modalities=name)
    assert not [parameter for parameter in model.state_dict() if absent in parameter]
    assert list(model.fusion.enhance[0]) == [f"{name}_from_difference"]


@torch.no_grad()
@pytest.mark.parametrize("name", ["full", "without_cmca", "without_udca", "without_cmca_udca"])
def test_memory_depends_on_the_other_modality_only_through_cmca(name):
    model, views = tiny_model(**ABLATED[name]).eval(), random_views(1)
    rgb, sem = model.encode(views).unbind(1)
    same_rgb, other_sem = model.encode(with_other(views, [2, 3])).unbind(1)
    assert torch.equal(same_rgb, rgb) == ("cmca" in ABLATED[name])
    assert not torch.allclose(other_sem, sem, atol=1e-4)


@torch.no_grad()
def test_without_cmca_and_udca_the_blocks_take_the_projected_features():
    fusion = tiny_model(cmca=False, udca=False).eval().fusion
    stream = {"rgb": torch.randn(2, 2, 9, 16), "sem": torch.randn(2, 2, 9, 16)}
    assert fusion.enhance[0](stream) is stream
    assert not list(fusion.enhance.parameters())


@torch.no_grad()
@pytest.mark.parametrize("modalities", ["both", "rgb"])
def test_decoder_without_mgca_equals_a_transformer_decoder_layer(modalities):
    decoder = tiny_model(mgca=False, modalities=modalities).eval().decoder
    reference = torch.nn.TransformerDecoderLayer(32, 2, 64, dropout=0.0, batch_first=True).eval()
    for ours, other in (
        (decoder.self_attention, reference.self_attn),
        (decoder.mgca.attend, reference.multihead_attn),
    ):
        other.in_proj_weight.data, other.in_proj_bias.data = ours.in_proj.weight, ours.in_proj.bias
        other.out_proj = ours.out_proj
    reference.linear1, reference.linear2 = decoder.feedforward[0], decoder.feedforward[3]
    reference.norm1, reference.norm2 = decoder.self_attention_norm, decoder.mgca.norm
    reference.norm3 = decoder.feedforward_norm
    tokens, memory = random_tokens(3, 1, 6), torch.randn(3, 2 if modalities == "both" else 1, 9, 32)
    words = decoder.embedding(tokens[:, 0]) + decoder.positions[:6]
    mask = torch.nn.Transformer.generate_square_subsequent_mask(6)
    expected = decoder.output(reference(words, memory.flatten(1, 2), tgt_mask=mask))
    torch.testing.assert_close(decoder(tokens, memory)[:, 0], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@EACH
def test_attention_and_gates_are_named(name):
    model = tiny_model(**ABLATED[name]).eval()
    seen = model.explain(random_views(2), random_tokens(2, 3, 6))
    assert tuple(seen.grids) == model.modalities
    assert all(grid.shape == (2, 3, 6, 9) for grid in seen.grids.values())
    if isinstance(model.decoder.mgca, UngatedAttention):
        assert not seen.gates
        torch.testing.assert_close(sum(seen.grids.values()).sum(dim=-1), torch.ones(2, 3, 6))
    else:
        assert list(seen.gates) == [*model.modalities, "word"]


@pytest.mark.parametrize(
    ("name", "has"), [("rgb_only", "rgb and word"), ("maps_only", "sem and word"), ("without_mgca", "none")]
)
def test_pictures_of_attention_need_both_modalities_and_mgca(name, has):
    with pytest.raises(ValueError, match=f"this model has {has}, leave --attention out"):
        explain_caption(tiny_model(**ABLATED[name]).eval(), VOCABULARY, random_views(1)[0].numpy(), "a b")


@pytest.mark.parametrize("config", ["demo.yaml", "second_cc_authors.yaml"])
def test_ablations_are_valid_and_distinct(config):
    actual = [read_settings(CONFIGS / config, as_options(own)).model for own in read_ablations(None).values()]
    released = config == "second_cc_authors.yaml"  # side by side already
    assert len({str(model) for model in actual}) == len(actual) - released
    assert actual[0] == read_settings(CONFIGS / config, []).model


def test_unknown_ablation_is_refused():
    with pytest.raises(ValueError, match=f"--only takes names of {ABLATIONS.name} .full, .*got rbg"):
        run_ablations.main(["--config", str(CONFIGS / "demo.yaml"), "--seeds", "1", "--only", "rbg"])


def test_invalid_settings_are_reported_before_training():
    with pytest.raises(ValueError, match="train.epochs"):
        run_ablations.main(
            ["--config", str(CONFIGS / "demo.yaml"), "--seeds", "1", "--", "--train.epochs", "0"]
        )


@pytest.mark.parametrize("only", [[], ["--only", "full"]])
def test_ablations_of_a_change_detector_are_refused_before_training(only, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = CONFIGS / "demo_detector.yaml"
    message = "need a captioning model, .*demo_detector.yaml has model.name change_detector: give another"
    with pytest.raises(UserError, match=message):
        run_ablations.main(["--config", str(config), "--seeds", "1", *only])
    assert not list(tmp_path.iterdir())


def scored(s_m: float, cider: float | None, right: float) -> dict:
    """The keys of scores.json that the tables read."""
    own = {"s_m": {"value": s_m}, "cider": None if cider is None else {"value": cider}}
    floor = {"s_m": {"value": 40.0}, "cider": {"value": 80.0}}
    return {"ours": {"all": own}, "floor": {"all": floor}, "decision": {"caption": {"all": {"value": right}}}}


def test_the_table_of_ablations_has_means_and_the_deviation_of_s_m():
    ablations = {
        "full": {"scores": run_ablations.summary([scored(60.0, 100.0, 90.0), scored(64.0, 110.0, 95.0)])},
        "rgb_only": {"scores": run_ablations.summary([scored(50.0, None, 80.0), scored(50.0, 90.0, 80.0)])},
    }
    floor = {"s_m": 40.0, "cider": 80.0}
    lines = run_ablations.table({"seeds": [1, 2], "ablations": ablations, "floor": floor}).splitlines()
    assert lines[0].split("  ")[0] == "mean of seeds 1 2"
    assert lines[1].split() == ["full", "62.0", "2.8", "-", "-", "-", "105.0", "92.5"]
    assert lines[2].split() == ["rgb_only", "50.0", "0.0", "-", "-", "-", "-", "80.0"]
    assert lines[3].split() == ["floor", "40.0", "-", "-", "-", "-", "80.0", "-"]


def test_the_table_of_seeds_has_every_seed_mean_deviation_and_floor():
    results = [scored(60.0, 100.0, 90.0), scored(64.0, None, 95.0)]
    lines = run_seeds.table([1, 3], results, run_seeds.TITLES["captioning"]).splitlines()
    assert [line.split() for line in lines] == [
        ["seed", "1", "seed", "3", "mean", "std", "floor"],
        ["S*m", "60.0", "64.0", "62.0", "2.8", "40.0"],
    ]


def test_scores_without_a_floor_keep_their_rows():
    results = [{**scored(60.0, 100.0, 90.0), "floor": None}]
    lines = run_seeds.table([1], results, run_seeds.TITLES["captioning"]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["CIDEr", "100.0", "100.0", "-", "-"],
        ["S*m", "60.0", "60.0", "-", "-"],
    ]


def detected(sek: float) -> dict:
    """The keys of a change detector's scores.json that the table reads."""
    ours = {"oa": 90.0, "miou": 70.0, "sek": sek, "f_scd": 55.0, "p_scd": 50.0, "r_scd": 60.0}
    return {"ours": ours, "floor": {**dict.fromkeys(ours, 0.0), "oa": 80.0, "miou": 40.0}, "confusion": []}


def test_the_table_of_seeds_has_the_scores_of_a_change_detector():
    results = [detected(10.0), detected(12.0)]
    lines = run_seeds.table([1, 2], results, run_seeds.TITLES["detection"]).splitlines()
    assert [line.split() for line in lines] == [
        ["seed", "1", "seed", "2", "mean", "std", "floor"],
        ["OA", "90.0", "90.0", "90.0", "0.0", "80.0"],
        ["mIoU", "70.0", "70.0", "70.0", "0.0", "40.0"],
        ["SeK", "10.0", "12.0", "11.0", "1.4", "0.0"],
        ["F_scd", "55.0", "55.0", "55.0", "0.0", "0.0"],
    ]


@pytest.mark.slow
def test_seeds_of_a_change_detector_are_trained_tested_and_printed(demo_input, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = {"data.dir": demo_input, "data.workers": 0, "model.width": 16, "train.epochs": 1}
    settings |= {"train.device": "cpu", "decode.device": "cpu"}
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    run_seeds.main(["--config", str(CONFIGS / "demo_detector.yaml"), "--seeds", "1", "--", *words])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["seed", "OA", "mIoU", "SeK", "F_scd"]


def test_one_seed_has_no_deviation():
    results = [scored(60.0, 100.0, 90.0)]
    lines = run_seeds.table([1], results, run_seeds.TITLES["captioning"]).splitlines()
    assert lines[-1].split() == ["S*m", "60.0", "60.0", "-", "40.0"]
    report = {"seeds": [1], "ablations": {"full": {"scores": run_ablations.summary(results)}}, "floor": {}}
    assert run_ablations.table(report).splitlines()[1].split()[:3] == ["full", "60.0", "-"]


@pytest.mark.slow
def test_command_trains_tests_and_prints_each_ablation(demo_input, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [
        "--config",
        str(CONFIGS / "second_cc.yaml"),
        "--name",
        "tiny",
        "--seeds",
        "2",
        "--only",
        "rgb_only",
    ]
    argv += ["--", *tiny_settings(demo_input, **{"train.epochs": 1})]
    run_ablations.main(argv)
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()[:3]] == ["mean", "rgb_only", "floor"]
    scores = json.loads((tmp_path / "runs" / "tiny_ablations.json").read_text())["ablations"]["rgb_only"][
        "scores"
    ]
    assert f"{scores['cider']['mean']:.1f}" in first
    checkpoint = tmp_path / "runs" / "tiny_rgb_only_seed2" / "best.pt"
    written = checkpoint.stat().st_mtime_ns
    run_ablations.main(argv)  # nothing is left to do
    assert capsys.readouterr().out == first
    assert checkpoint.stat().st_mtime_ns == written
    with pytest.raises(
        ValueError, match="rgb_only_seed2 was made with other settings, model.width .16 -> 24.: ch"
    ):
        run_ablations.main([*argv, "--model.width", "24"])
