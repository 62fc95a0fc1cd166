"""Pickles that are not authors' checkpoints: their code is not executed, and the error names it."""

import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.authors.pickle_reader import read_authors_checkpoint
from tests.conftest import CONFIGS
from tests.helpers import authors_modules


def content() -> dict[str, Any]:
    return authors_modules.checkpoint(authors_modules.build(8, layers=1))


def refuse(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_authors_checkpoint(path)
    assert "\n" not in str(caught.value)


class Call:
    """Unpickles as the value of function(*arguments)."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple:
        return self.reduced


ATTACKS = {  # each makes the directory `mark` when it runs
    "posix.system": lambda mark: Call(os.system, f"mkdir {mark}"),
    "builtins.eval": lambda mark: Call(eval, f"__import__('os').mkdir({str(mark)!r})"),
    "builtins.exec": lambda mark: Call(exec, f"import os; os.mkdir({str(mark)!r})"),
    "subprocess.check_call": lambda mark: Call(subprocess.check_call, ["mkdir", str(mark)]),
    "shutil.copytree": lambda mark: Call(shutil.copytree, str(CONFIGS), str(mark)),
}


def in_scores(content: dict, attack: Any) -> None:
    content["bleu-4"]["CIDEr"] = attack


def in_an_adams_state(content: dict, attack: Any) -> None:
    next(iter(content["decoder_optimizer"].state.values()))["exp_avg"] = attack


def in_a_modules_attribute(content: dict, attack: Any) -> None:
    content["encoder_image2"].net[6][1].relu.inplace = attack


def in_place_of_a_module(content: dict, attack: Any) -> None:
    content["decoder"] = attack


def under_another_key(content: dict, attack: Any) -> None:
    content["note"] = [{"deep": (attack,)}]


def zip_file(content: Any, path: Path) -> None:
    torch.save(content, path)


def file_before_torch_1_6(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def newest_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=5))


def tar_of_torch_0_1(content: Any, path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            data = pickle.dumps(content, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_work_with_plain_pickle(name, tmp_path):
    zip_file(ATTACKS[name](tmp_path / "mark"), tmp_path / "bad.pt")
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "place", [in_scores, in_an_adams_state, in_a_modules_attribute, in_place_of_a_module, under_another_key]
)
def test_attacks_anywhere_in_the_file_do_not_run(place, tmp_path):
    bad = content()
    place(bad, ATTACKS["posix.system"](tmp_path / "mark"))
    path = authors_modules.save(bad, tmp_path / "bad.pth.tar")
    refuse(
        path,
        r"bad.pth.tar is refused \(it holds posix.system\): it may hold only tensors and the authors'",
    )
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "save", [zip_file, file_before_torch_1_6, plain_pickle, newest_pickle, tar_of_torch_0_1]
)
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_in_any_file_format_do_not_run(name, save, tmp_path):
    save({"epoch": ATTACKS[name](tmp_path / "mark")}, tmp_path / "bad.pth.tar")
    named = save in (zip_file, file_before_torch_1_6, plain_pickle)
    refuse(
        tmp_path / "bad.pth.tar",
        rf"refused \(it holds {name}\)" if named else r"is refused \(.+\): it may hold only tensors",
    )
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("module", ["strange_module", "models_Decoder", "torch.nn.modules.strange"])
def test_unknown_classes_are_refused_by_name(module, tmp_path, monkeypatch):
    strange = type("Strange", (), {"__module__": module})
    home = types.ModuleType(module)
    home.Strange = strange
    bad = {**content(), "epoch": strange()}
    with authors_modules.authors_names(), monkeypatch.context() as imports:
        imports.setitem(sys.modules, module, home)
        torch.save(bad if module == "strange_module" else {"epoch": strange()}, tmp_path / "bad.pt")
    refuse(tmp_path / "bad.pt", rf"is refused \(it holds {module}.Strange\)")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Call(torch.load, "other.pt"), r"it holds torch.serialization.load"),
        (KeyboardInterrupt(), r"it holds \w+.KeyboardInterrupt"),  # which torch by itself lets pass
        (Call(bytearray, 2**62), r"is refused \(it holds builtins.bytearray\)"),
        (Call(torch._utils._rebuild_parameter, *[[]] * 3), r"is refused \(.+\)"),
    ],
)
def test_other_calls_are_refused(value, message, tmp_path):
    zip_file({"epoch": value}, tmp_path / "bad.pt")
    refuse(tmp_path / "bad.pt", message)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    whole = authors_modules.save(content(), tmp_path / "whole.pt").read_bytes()
    for data in (b"", b"text", whole[: len(whole) // 2], b"PK\x03\x04"):
        (tmp_path / "bad.pt").write_bytes(data)
        refuse(tmp_path / "bad.pt", r"bad.pt is refused \(.+\)")
    torch.save([1, 2], tmp_path / "bad.pt")
    refuse(tmp_path / "bad.pt", r"is not a checkpoint of the authors' code: it has no encoder_image")
    torch.save(
        dict.fromkeys(("encoder_image", "encoder_image2", "encoder_feat", "decoder"), 3), tmp_path / "bad.pt"
    )
    refuse(tmp_path / "bad.pt", r"encoder_image of the checkpoint is not a pickled module")
