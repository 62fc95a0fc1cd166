"""torch.compile for the parts of the captioning model whose shapes are the same at every training step."""

from collections.abc import Callable

from models.captioner import Captioner
from models.trunks import Trunk


def compile_fixed(model: Captioner, backend: str | Callable = "inductor") -> None:
    """Compile trunks and fusion in place, once for each shape of a batch; names of weights stay.

    In training each trunk then computes all views, alike or not, so that its batches have one size. The
    decoder, whose captions vary in length, stays as it is.
    """
    for module in model.modules():
        if isinstance(module, Trunk):
            module.fixed_shapes = True
            module.compile(dynamic=False, backend=backend)
    if fusion := model.parts().get("fusion"):
        fusion.compile(dynamic=False, backend=backend)
