"""Rules of the layout, checked by `make check`: python -m tests.layout [ROOT]

No folder holds more than 16 Python files (but `impls/backends`, one a backend), chains of imports inside `bench` and inside
`analysis` are at most 8 long, no package imports a private name (`_…`) of another one, and no module assigns a constant twice.
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
    yield from private_names(known)
    yield from assigned_twice(known)


def main() -> None:
    said = list(broken(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent))
    for sentence in said:
        print(sentence, file=sys.stderr)
    sys.exit(bool(said))


if __name__ == "__main__":
    main()
