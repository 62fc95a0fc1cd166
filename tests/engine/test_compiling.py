"""A compiled model computes the same, keeps the names of its weights, and has few shapes."""

import pytest
import torch

from configs import Config, TrainConfig
from data.views import plain_colours
from tests.helpers.tiny import random_tokens, random_views, tiny_config, tiny_model
from tools.engine.compiling import compile_fixed

pytestmark = pytest.mark.integration


class Counted:
    """A compiler backend that does nothing. graphs: the shapes of the inputs of each graph."""

    def __init__(self) -> None:
        self.graphs: list[set[tuple[int, ...]]] = []

    def __call__(self, graph, inputs):
        self.graphs.append({tuple(value.shape) for value in inputs})
        return graph.forward


@pytest.fixture(autouse=True)
def compiled_anew():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def step(model, views):
    """Logits, and the gradients by name."""
    logits = model(views, random_tokens(len(views), 5), plain_colours(views))
    logits.sum().backward()
    return logits.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_same_logits_gradients_and_names():
    views = random_views(2)
    views[:, 2:] = 0
    plain, compiled = tiny_model().train(), tiny_model().train()
    compile_fixed(compiled, backend="eager")
    (logits, gradients), (logits2, gradients2) = step(plain, views), step(compiled, views)
    torch.testing.assert_close(logits2, logits, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == gradients2.keys()
    for name, gradient in gradients.items():
        assert (gradients2[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-5, name
    assert list(compiled.state_dict()) == list(plain.state_dict())


def test_void_maps_do_not_change_compiled_shapes():
    backend, model, views = Counted(), tiny_model().train(), random_views(3)
    compile_fixed(model, backend=backend)
    for void in range(3):
        views[:void, 2:] = 0
        step(model, views)
    assert len(backend.graphs) == 2  # both trunks together, and the fusion
    assert (6, 3, 64, 64) in backend.graphs[0]
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        model.eval()(random_views(1), random_tokens(1, 5))
    assert len(backend.graphs) == 2


def test_a_change_detector_is_not_compiled():
    with pytest.raises(ValueError, match="train.compile compiles captioning models: leave it out"):
        Config(model=tiny_config(name="change_detector"), train=TrainConfig(select_on="sek", compile=True))
