"""One synthetic run and its report, made once for all tests of analysis."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.report.findings import Findings, find_out
from analysis.report.load import Section, load
from analysis.report.page import Report, build
from tests.analysis.synthetic import Synthetic, write


@pytest.fixture(scope="session")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(Synthetic(), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two backends on two cases: quick to report where the figures do not matter."""
    what = Synthetic(backends=("torch", "jax"), phases=("forward",), batches=(1, 8), hiddens=(64,), lengths=(64,), memory=False)
    return write(what, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def section(run_file: Path) -> Section:
    return load([run_file])[0]


@pytest.fixture(scope="session")
def found(section: Section) -> Findings:
    return find_out(section)


@pytest.fixture(scope="session")
def report(run_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return build([run_file], tmp_path_factory.mktemp("report"))
