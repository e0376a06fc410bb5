"""Rules of the layout, checked by `make check`: python -m tests.layout [ROOT]

No folder holds more than 16 Python files (but `impls/backends`, one a backend). Chains of imports inside `bench` and inside
`analysis` are at most 8 long. No package imports a private name (`_…`) of another one, no module assigns a constant twice, no
condition reads the wording of a sentence, records are built in one place. A function takes at most 6 positional parameters, a
module of less than 40 lines has a reason, and the name of a test at most 60 characters.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("impls", "bench", "results", "analysis", "lstm_bench")
MOST_FILES, ONE_A_BACKEND = 16, Path("impls/backends")
LONGEST_CHAIN = 8
MOST_POSITIONAL = 6
LONGEST_NAME = 60
LEAST_LINES = 40
SHORT = {  # why each of these is a module of its own
    "impls/backends/torch_loop.py": "one file a backend",
}
Imports = dict[str, set[str]]
Modules = dict[str, ast.Module]


def files(root: Path) -> list[Path]:
    """The Python files of the packages, relative to `root`."""
    return sorted(path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*.py"))


def modules(root: Path) -> Modules:
    """Every module of the packages below `root`, parsed, by its dotted name."""
    found = {}
    for path in files(root):
        parts = path.with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse((root / path).read_text(encoding="utf-8"))
    return found


def imports(known: Modules) -> Imports:
    """Which of the modules each one names in an import, wherever in its code."""
    found: Imports = {name: set() for name in known}
    for name, tree in known.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name] |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = (f"{node.module}.{each.name}" for each in node.names)
                found[name] |= {each if each in known else node.module for each in inner}
    return {name: (named & known.keys()) - {name} for name, named in found.items()}


def longest_chain(of: Imports, package: str) -> list[str]:
    """The longest chain of imports between modules of a package. Raises `ValueError` for a circle."""
    longest: dict[str, list[str]] = {}

    def chain(name: str, above: tuple[str, ...]) -> list[str]:
        if name in above:
            raise ValueError(f"a circle of imports: {' → '.join((*above[above.index(name) :], name))}")
        if name not in longest:
            below = (chain(other, (*above, name)) for other in sorted(of[name]) if other.startswith(f"{package}."))
            longest[name] = [name, *max(below, key=len, default=[])]
        return longest[name]

    return max((chain(name, ()) for name in of if name.startswith(f"{package}.")), key=len, default=[])


def private_names(known: Modules) -> Iterator[str]:
    """Imports of private names of other packages, as sentences."""
    for name, tree in known.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
                names = [*node.module.split("."), *(each.name for each in node.names)]
                private = [each for each in names if each.startswith("_") and not each.startswith("__")]
                if private and node.module.split(".")[0] != name.split(".")[0]:
                    yield f"{name} imports {private[0]} of {node.module}, which is private to its package"


def assigned_twice(known: Modules) -> Iterator[str]:
    """Constants that a module assigns a second time at its top, as sentences: whoever reads one gets the other."""
    for name, tree in known.items():
        targets = (target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets)
        counted = Counter(target.id for target in targets if isinstance(target, ast.Name) and target.id.isupper())
        for constant, times in counted.items():
            if times > 1:
                yield f"{name} assigns {constant} {times} times"


def many_positional(known: Modules) -> Iterator[str]:
    """Functions that take more than six positional parameters, as sentences; PyTorch's operators have a schema of their own."""
    for name, tree in known.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or any("custom_op" in ast.unparse(each) or "register" in ast.unparse(each)
                                                            for each in node.decorator_list):  # fmt: skip
                continue
            parameters = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
            count = len(parameters) - (parameters[:1] in (["self"], ["cls"]))
            if count > MOST_POSITIONAL:
                yield f"{name}.{node.name} takes {count} positional parameters; at most {MOST_POSITIONAL}: name the others"


# These read records of earlier versions, which have the sentence alone.
READ_STORED_SENTENCES = ("results.record", "bench.exclusions")


def wording(known: Modules) -> Iterator[str]:
    """Conditions on the wording of a reason or sentence; what decides has a type or field of its own."""
    for name, tree in ((name, tree) for name, tree in known.items() if name not in READ_STORED_SENTENCES):
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and any(
                isinstance(each, (ast.In, ast.NotIn, ast.Eq, ast.NotEq)) for each in node.ops
            ):
                read = [node.left, *node.comparators]
                decides = any(map(_is_sentence, read)) and any(isinstance(each, ast.Constant) and each.value for each in read)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                matched = getattr(node.func.value, "id", "") == "re" and any(map(_is_sentence, node.args))
                decides = matched or (
                    node.func.attr in ("startswith", "endswith", "partition") and _is_sentence(node.func.value)
                )
            else:
                decides = False
            if decides:
                yield f"{name}, line {node.lineno}, decides by the wording of a sentence: {ast.unparse(node)[:60]}"


def _is_sentence(node: ast.expr) -> bool:
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) in ("reason", "sentence", "message")


def short_modules(root: Path) -> Iterator[str]:
    """Modules of less than 40 lines that have no reason, and reasons without such a module, as sentences."""
    short = {
        path.as_posix()
        for path in files(root)
        if path.name != "__init__.py" and len((root / path).read_text(encoding="utf-8").splitlines()) < LEAST_LINES
    }
    for path in sorted(short - SHORT.keys()):
        yield f"{path} has less than {LEAST_LINES} lines: merge it, or give the reason in tests/layout.py"


def long_test_names(root: Path) -> Iterator[str]:
    """Names of tests of more than 60 characters, as sentences."""
    for path in sorted((root / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > LONGEST_NAME:
                yield f"{path.relative_to(root)}: {node.name} has {len(node.name)} characters, at most {LONGEST_NAME}"


def record_builders(known: Modules) -> Iterator[str]:
    """Modules of `bench` that build a `Record`, where there is more than one, as a sentence."""
    calls = {
        name
        for name, tree in known.items()
        if name.startswith("bench.")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Record"
    }
    if len(calls) > 1:
        yield f"records are built by {' and '.join(sorted(calls))}; build them in one place"


def broken(root: Path) -> Iterator[str]:
    """What does not hold, as sentences."""
    for folder, count in Counter(path.parent for path in files(root)).items():
        if count > MOST_FILES and folder != ONE_A_BACKEND:
            yield f"{folder} holds {count} Python files; at most {MOST_FILES}: give a topic a folder of its own"
    known = modules(root)
    of = imports(known)
    for package in ("bench", "analysis"):
        try:
            chain = longest_chain(of, package)
        except ValueError as error:
            yield str(error)
            continue
        if len(chain) > LONGEST_CHAIN:
            yield f"{len(chain)} imports one upon another, at most {LONGEST_CHAIN}: {' → '.join(chain)}"
    for rule in (private_names, assigned_twice, many_positional, wording, record_builders):
        yield from rule(known)
    for check in (short_modules, long_test_names):
        yield from check(root)


def main() -> None:
    said = list(broken(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent))
    for sentence in said:
        print(sentence, file=sys.stderr)
    sys.exit(bool(said))


if __name__ == "__main__":
    main()
