"""The table of systems: its sizes are those of the models, its cases can be measured, its sources can be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.harness.study import get
from bench.studies.workloads import case_of
from results.workloads import BY_NAME, SYSTEMS

# The layers as the models' own code makes them, in the source that the table names; cells and layers have the same parameters.
MODELS = {
    "basecall-fast": lambda: [nn.LSTM(96, 96) for _ in range(5)],
    "basecall-hac": lambda: [nn.LSTM(384, 384) for _ in range(5)],
    "basecall-sup": lambda: [nn.LSTM(1024, 1024) for _ in range(5)],
    "basecall-train": lambda: [nn.LSTM(384, 384) for _ in range(5)],
    "vad": lambda: [nn.LSTMCell(128, 128)],
    "asr-stream": lambda: [nn.LSTM(2048, 2048)],
    "asr-lstmp": lambda: [nn.LSTM(512, 1024, proj_size=512) for _ in range(12)],
    "transducer-predictor": lambda: [nn.LSTM(640, 640, num_layers=2)],
    "rnnt-encoder": lambda: [nn.LSTM(240, 1024, num_layers=2), nn.LSTM(2048, 1024, num_layers=3)],
    "diarize": lambda: [nn.LSTM(60, 128, num_layers=2, bidirectional=True)],
    "denoise": lambda: [nn.LSTM(257, 128), nn.LSTM(128, 128)],
    "speaker-train": lambda: [nn.LSTM(40, 256, 3, batch_first=True)],
    "tts-decoder": lambda: [nn.LSTMCell(768, 1024), nn.LSTMCell(1536, 1024)],
    "tts-kokoro": lambda: [nn.LSTM(640, 256, 1, bidirectional=True)],
    "music-separation": lambda: [nn.LSTM(512, 256, num_layers=3, bidirectional=True)],
    "codec": lambda: [nn.LSTM(512, 512, 2)],
    "guitar-amp": lambda: [nn.LSTM(1, 24, 1)],
    "ocr-doctr": lambda: [nn.LSTM(512, 128, num_layers=2, bidirectional=True)],
    "ocr-easyocr": lambda: [nn.LSTM(256, 256, bidirectional=True)],
    "translate": lambda: [nn.LSTM(1024, 1024) for _ in range(4)],
    "language-awd": lambda: [nn.LSTM(400, 1150), nn.LSTM(1150, 1150), nn.LSTM(1150, 1150)],
    "language-elmo": lambda: [nn.LSTM(512, 4096, num_layers=2, proj_size=512)],
    "language-char": lambda: [nn.LSTM(100, 2048, 1)],
    "keyboard": lambda: [nn.LSTM(96, 670)],
    "forecast-tft": lambda: [nn.LSTM(128, 128)],
    "forecast-deepar": lambda: [nn.LSTM(40, 40, num_layers=2)],
    "hydrology": lambda: [nn.LSTM(32, 256)],
    "finance": lambda: [nn.LSTM(6, 64, num_layers=2)],
    "logs": lambda: [nn.LSTM(1, 64, 2)],
    "rl-puffer": lambda: [nn.LSTM(128, 128)],
    "rl-hand": lambda: [nn.LSTM(50, 512)],
    "rl-actuator": lambda: [nn.LSTM(2, 8, 2)],
    "rl-r2d2": lambda: [nn.LSTMCell(512 + 18 + 1, 512)],
    "rl-alphastar": lambda: [nn.LSTM(1536, 384, 3)],
}


@pytest.mark.parametrize("name", BY_NAME)
def test_each_has_as_many_parameters_as_the_model(name):
    with torch.device("meta"):
        model = sum(weight.numel() for layer in MODELS[name]() for weight in layer.parameters())
    parts = [case_of(name, part, part.shapes[0]).spec for part in BY_NAME[name].parts]
    assert sum(spec.parameter_count() for spec in parts) == model


def test_there_are_enough_systems_of_enough_kinds():
    assert len(SYSTEMS) >= 24 and len({system.domain for system in SYSTEMS}) >= 6
    sizes = [(part.sizes, part.proj_size) for system in SYSTEMS for part in system.parts]
    assert any(proj for _, proj in sizes) and {5, 12} <= {layers for (*_, layers), _ in sizes}
    assert {1666, 670, 49152, 1150} <= {
        number for system in SYSTEMS for part in system.parts for shape in part.shapes
        for number in (*part.sizes, shape.steps, shape.batch)
    }  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_sources_and_amounts_can_be_read(system):
    assert re.fullmatch(r"https://github.com/[\w.-]+/[\w.-]+/tree/[0-9a-f]{7}", system.url)
    for part in system.parts:
        for shape in part.shapes:
            assert shape.amount > 0 and shape.dtype in ("float32", "float16", "bfloat16")
            assert not shape.scaled or shape.device == "cpu"
    for published in system.published:
        assert (published.seconds is None) == (published.batch == 0), "a time is of a certain call"


def test_every_case_is_one_of_the_study():
    study = get("workloads")
    every = [case_of(system.name, part, shape) for system in SYSTEMS for part in system.parts for shape in part.shapes]
    assert {case.key for case in every} == {case.key for scale in ("cpu", "gpu", "grid") for case in study.cases[scale]}
    assert len({case.key for case in every}) == len(every)
    assert all(study.forecast and study.forecast(case) for case in study.cases["gpu"])
    assert max(case.counts()["flops"] for case in study.cases["cpu"]) < 15e9, "none takes minutes on a CPU"


def test_the_page_names_every_system_with_its_source():
    page = (Path(__file__).parents[4] / "docs" / "studies" / "workloads.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == [system.name for system in SYSTEMS for _ in system.parts]
    assert {row[-1].partition("](")[2].rstrip(") |") for row in rows} == {system.url for system in SYSTEMS}
    assert f"{len(SYSTEMS)} systems" in page
