"""The device of a setting: a GPU for each process, and only GPUs that torch is built for."""

import pytest

from tools.engine.device import check_architecture, gpu_of_process


@pytest.mark.parametrize(
    ("local_rank", "visible", "device"), [(0, 1, "cuda:0"), (3, 8, "cuda:3"), (3, 1, "cuda:0")]
)
def test_each_process_gets_its_own_gpu(local_rank, visible, device):
    assert gpu_of_process(local_rank, visible) == device


def test_more_processes_than_gpus_are_refused():
    with pytest.raises(ValueError, match="process 2 sees 2: start as many processes"):
        gpu_of_process(2, 2)


BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (12, 1)])
def test_gpus_that_torch_is_built_for_pass(capability):
    check_architecture(capability, BUILT_FOR)


@pytest.mark.parametrize("capability", [(6, 0), (7, 0), (13, 0)])
def test_gpus_that_torch_is_not_built_for_are_named(capability):
    major, minor = capability
    with pytest.raises(ValueError, match=rf"capability {major}\.{minor}, torch .* is built for sm_75"):
        check_architecture(capability, BUILT_FOR)


def test_ptx_runs_on_later_gpus():
    check_architecture((13, 0), [*BUILT_FOR, "compute_120"])
