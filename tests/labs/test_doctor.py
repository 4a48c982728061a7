"""The doctor names what is outside the supported range, and its ranges are those of the package."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import torch

doctor = import_module("lablib.teaching.doctor")
ROOT = Path(__file__).resolve().parents[2]


def test_oldest_versions_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(re.match(r"([a-z]+)>=([\d.]+)", line).groups() for line in project["dependencies"])
    wanted["python"] = project["requires-python"].removeprefix(">=")
    assert {name: oldest for name, (oldest, _) in doctor.SUPPORTED.items()} == wanted


@pytest.mark.parametrize("name", ["torch", "numpy", "scipy"])
def test_newest_versions_are_those_the_checks_run_on(name):
    pinned = re.search(rf"(?m)^{name}==([\d.]+)$", (ROOT / "requirements.txt").read_text())[1]
    assert doctor.release(pinned) == doctor.release(doctor.SUPPORTED[name][1])


def test_this_environment_is_fine_and_named(capsys):
    device = doctor.doctor()
    out = capsys.readouterr().out
    assert isinstance(device, torch.device)
    assert f"torch    {torch.__version__}" in out
    assert "TOO OLD" not in out and "missing" not in out
    assert re.search(rf"(?m)^device +{device.type} ", out)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2.3.1", 'TOO OLD: lablib needs 2.4 or later. Do this: pip install --upgrade "torch>=2.4"'),
        ("2.4.0", "fine (2.4 to 2.13)"),
        ("2.13.0+cu126", "fine"),
        ("2.14.0a0+git1", "newer than 2.13"),
        ("3.0", "newer than 2.13"),
        ("", "missing. Do this: pip install torch"),
    ],
)
def test_versions_outside_the_range_are_said_plainly(version, words):
    assert words in doctor.judgement("torch", version)


def test_a_card_is_chosen_when_there_is_one(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
    assert doctor.doctor() == torch.device("cuda")
    assert re.search(r"(?m)^device +cuda +A card$", capsys.readouterr().out)
