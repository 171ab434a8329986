"""One small network, as SPEC.py, as `.isobit` and deployed; and `isobit`, called in this
process.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from isobit.cli import main

SPEC = """\
import torch
import isobit
from isobit import nn

torch.manual_seed(0)
net = nn.Sequential(
    nn.Standardize(),
    nn.Conv2d(1, 4, 3, stride=2, padding=1),
    nn.BatchNorm2d(4),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(64, 10),
)
model = isobit.Model(net, input=(1, 8, 8), target="cortex-m4", name="tiny")
"""


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout."""
        value = json.loads(self.out)
        assert isinstance(value, dict) and value["schema"] == 1
        assert next(iter(value)) == "schema"
        return value

    def error(self, code: str) -> dict[str, str]:
        """The only error, complete, of this code; with `--json`."""
        assert self.code == 1, (self.out, self.err)
        assert "Traceback" not in self.err
        (problem,) = self.json["errors"]
        assert set(problem) == {"code", "where", "what", "want", "got", "fix"}
        assert all(problem.values()), problem
        assert problem["code"] == code, problem
        return dict(problem)


Run = Callable[..., Outcome]


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in there."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """The networks are tiny: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call `isobit` in this process; a traceback would fail the test."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, out, err)

    return call


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SPEC.py of a small network."""
    path = tmp_path_factory.mktemp("spec") / "spec.py"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="session")
def model(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network after one epoch, as `.isobit`. Never changed by a test."""
    path = tmp_path_factory.mktemp("model") / "m.isobit"
    with pytest.raises(SystemExit) as caught:
        main(
            ["train", str(spec), "--data", "digits", "--epochs", "1", "--out", str(path), "--json"]
        )
    assert caught.value.code == 0
    return path


@pytest.fixture(scope="session")
def deployed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network deployed. Never changed by a test."""
    folder = tmp_path_factory.mktemp("deployed") / "tiny"
    with pytest.raises(SystemExit) as caught:
        main(["deploy", str(model), "--out", str(folder), "--json"])
    assert caught.value.code == 0
    return folder


@pytest.fixture
def bundle(deployed: Path, tmp_path: Path) -> Path:
    """A copy of the deployed network that a test may damage."""
    return Path(shutil.copytree(deployed, tmp_path / "bundle"))
