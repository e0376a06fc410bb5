"""What a revision's backends are, what a worker imports for them, and what tells two states of a repository apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import impls
from bench.harness.case import Case
from bench.machine import system
from bench.processes.code import ROOT, Code, CodeFails, RevisionBackends
from bench.processes.process import WorkerProcess
from bench.regression.revisions import BuildFails, Repository, code_of, working_tree
from impls import LSTMSpec
from tests.lstm_bench.user_project import BACKEND, FAST, UserProject

IMPORTING = (
    BACKEND.format(seconds=0.0)
    + "\n\nfrom kernels import LEVEL\n\nNetwork.provenance = lambda self: right.Network.provenance(self) | {'level': LEVEL}\n"
)
CASE = Case(LSTMSpec(4, 5), steps=3, batch=2)


def of(made: UserProject, *paths: str) -> RevisionBackends:
    return RevisionBackends(made.folder, paths or ("backends",), made.folder)


@pytest.fixture
def project(tmp_path: Path) -> UserProject:
    return UserProject(tmp_path / "project").with_backend()


def test_a_backend_is_a_module_that_defines_load(project: UserProject):
    project.write("backends/helpers.py", "def unload(): ...\n")
    project.write("backends/_shared.py", "def load(): ...\n")
    project.write("backends/whole/__init__.py", "from backends.mine import load\n")
    project.write("backends/README.txt", "load\n")
    assert {name: path.relative_to(project.folder).as_posix() for name, path in of(project).files().items()} == {
        "mine": "backends/mine.py", "whole": "backends/whole/__init__.py",
    }  # fmt: skip
    one_file = of(project, "backends/mine.py")
    assert list(one_file.files()) == ["mine"] and one_file.folders() == [project.folder / "backends"]
    assert of(project).problem() is None and one_file.problem() is None


@pytest.mark.parametrize(("path", "text", "problem"), [
    ("backends/torch.py", "def load(): ...\n", "its backends/torch.py has the name of the built-in backend torch"),
    ("other/mine.py", "def load(): ...\n", "it has two backends named mine: backends/mine.py and other/mine.py"),
    ("backends/mine.py", "def load(:\n", "its backends/mine.py cannot be read: SyntaxError"),
    ("backends/mine.py", "DEVICES = chosen()\ndef load(): ...\n", "its backends/mine.py cannot be read: ValueError"),
    (".gitmodules", "", "submodules are not checked out"),
])  # fmt: skip
def test_what_cannot_be_measured_is_a_sentence(project: UserProject, path: str, text: str, problem: str):
    project.write(path, text)
    paths = ["backends", *(["other"] if path.startswith("other") else ["inside"] if path == ".gitmodules" else [])]
    assert problem in str(of(project, *paths).problem())
    with pytest.raises(CodeFails, match=r"it has|its "):
        Code(backends=of(project, *paths)).describe_source(1)


def test_a_link_out_of_the_revision_is_not_the_revision(project: UserProject, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(BACKEND.format(seconds=FAST))
    (project.folder / "backends" / "linked.py").symlink_to(elsewhere)
    assert "is a link out of the repository" in str(of(project).problem())


def test_known_within_the_block_and_only_there(project: UserProject, monkeypatch: pytest.MonkeyPatch):
    before = impls.names()
    with impls.searched(of(project).folders()):
        assert impls.names() == sorted([*impls.built_in(), "mine"]) and impls.facts("mine").devices == ("cpu",)
    assert impls.names() == before and "mine" not in before


@pytest.mark.parametrize("change", ["none", "measured", "bytecode", "edited", "new", "ignored", "deleted", "other path"])
def test_every_state_of_the_repository_has_its_own_identity(project: UserProject, change: str):
    project.write("kernels.py", "LEVEL = 'one'\n")
    commit = project.commit("first")
    before = of(project).state_hash("harness"), of(project).git_state()
    changes = {
        "measured": lambda: project.write("results/runs/a.jsonl", "{}"),
        "bytecode": lambda: project.write("backends/__pycache__/mine.cpython-311.pyc", ""),
        "edited": lambda: project.write("kernels.py", "LEVEL = 'two'\n"),
        "new": lambda: project.write("more.py", ""),
        "ignored": lambda: project.with_backend(path="backends/second.py"),
        "deleted": lambda: (project.folder / "kernels.py").unlink(),
    }
    (project.folder / ".git" / "info" / "exclude").write_text("second.py\n" if change == "ignored" else "")
    if change == "bytecode":
        (project.folder / ".gitignore").unlink()
        project.commit("ignores nothing")
        before = of(project).state_hash("harness"), of(project).git_state()
    changes.get(change, lambda: None)()
    now = of(project, "backends/mine.py" if change == "other path" else "backends")
    same = change in ("none", "measured", "bytecode")
    assert (now.state_hash("harness") == before[0]) == same
    assert now.state_hash("newer harness") != now.state_hash("harness")
    state = now.git_state()
    assert state["dirty"] is (not same and change != "other path") and before[1]["dirty"] is False
    assert change == "bytecode" or state["commit"] == commit


def test_an_uncommitted_backend_makes_its_commit_dirty(tmp_path: Path):
    project = UserProject(tmp_path / "project")
    commit = project.commit("first")
    project.with_backend()
    state = of(project).git_state()
    assert (state["commit"], state["dirty"]) == (commit, True)


def two_levels(folder: Path, packages: str) -> tuple[UserProject, Repository]:
    """Two commits whose backend imports a package of the repository, which differs between them."""
    project = UserProject(folder)
    project.write("backends/mine.py", IMPORTING)
    for level in ("old", "new"):
        project.write(f"{packages}/kernels/__init__.py", f"LEVEL = {level!r}\n")
        project.commit(level)
    return project, Repository(project.folder, ("backends",))


def prepared(code: Code, cache: Path) -> dict:
    worker = WorkerProcess("mine", system.usable()[:1], cache, code=code)
    try:
        return worker.request("prepare", 60, case=CASE.to_dict(), check_answers=False)
    finally:
        worker.close()


@pytest.mark.parametrize("packages", [".", "src", "python"])
def test_a_backends_imports_are_the_revisions_own(packages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In the root and in src by itself, elsewhere by PYTHONPATH, which names the working tree."""
    project, repository = two_levels(tmp_path / "project", packages)
    monkeypatch.setenv("PYTHONPATH", str(project.folder / packages) if packages == "python" else "")
    project.write(f"{packages}/kernels/__init__.py", "LEVEL = 'not committed'\n")
    levels = []
    for revision in ("HEAD~1", "HEAD"):
        with code_of(repository, repository.resolve(revision)) as code:
            levels.append(prepared(code, tmp_path)["provenance"]["level"])
    with working_tree(repository) as code:
        levels.append(prepared(code, tmp_path)["provenance"]["level"])
    assert levels == ["old", "new", "not committed"]


def test_a_module_of_the_working_tree_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As by an editable installation of a package that lies neither in the root nor in src."""
    project, repository = two_levels(tmp_path / "project", "python")
    editable = tmp_path / "site"
    editable.mkdir()
    (editable / "sitecustomize.py").write_text(f"import sys\nsys.path.append({str(project.folder / 'python')!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(editable))
    with code_of(repository, repository.resolve("HEAD")) as code:
        reply = prepared(code, tmp_path)
    assert (
        reply["status"] == "failed" and "imported from the working tree and not from the revision: kernels" in reply["reason"]
    )
    with working_tree(repository) as code:
        assert prepared(code, tmp_path)["status"] == "ok", "which is right where the working tree is measured"


INSTALLS = """
import zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "kernels-1.0-py3-none-any.whl"
    files = {
        "kernels/__init__.py": "LEVEL = 'compiled'\\n",
        "kernels-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: kernels\\nVersion: 1.0\\n",
        "kernels-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "kernels-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
"""


def test_with_build_environments_pip_installs_the_revision(tmp_path: Path):
    project, repository = two_levels(tmp_path / "project", "src")
    with pytest.raises(BuildFails, match="cannot be installed: "), code_of(repository, repository.resolve("HEAD"), True):
        pass
    project.write("builds.py", INSTALLS)
    project.write(
        "pyproject.toml",
        '[build-system]\nrequires = []\nbuild-backend = "builds"\nbackend-path = ["."]\n[project]\nname = "kernels"\n'
        'version = "1.0"\n',
    )
    project.commit("builds itself")
    with code_of(repository, repository.resolve("HEAD"), True) as code:
        assert code.python == sys.executable and code.root == ROOT
        said = code.describe_source(1)
        assert said.dirty is False and "mine" in said.backends
        assert prepared(code, tmp_path)["provenance"]["level"] == "compiled", "what pip has built comes before its source"
