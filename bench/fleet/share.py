"""A share of a run as a plan of its own, the numbers that its records get in the whole, and what tells machines apart."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import impls
from bench.harness.case import Case
from bench.harness.plan import Plan, Task
from bench.harness.study import REFERENCE, Study
from bench.machine import environment
from bench.worker.prepare import static_unsupported_reason

UNKNOWN_SECONDS = 10.0  # of a case whose study makes no forecast, on each backend
HOST = "host"  # among the conditions of a record of a fleet: which of the hosts measured it


@dataclass(frozen=True, slots=True)
class SharePlan(Plan):
    """Some cases of a plan in one of its replicates, measured as a run of one replicate: in fresh workers, validated there.

    share: (study, case) of each. number: the replicate of the whole.
    """

    share: frozenset[tuple[str, str]] = frozenset()
    number: int = 0

    @staticmethod
    def of(plan: Plan, share: Sequence[tuple[str, str]], number: int) -> SharePlan:
        """The share of a plan."""
        values = {field.name: getattr(plan, field.name) for field in fields(plan)}
        return SharePlan(**(values | {"replicates": 1, "share": frozenset(share), "number": number}))

    def cases(self, asked: Study) -> tuple[Case, ...]:
        """Those of the share. A standalone case has repetitions of its own and belongs to the first replicate."""
        return tuple(
            case
            for case in Plan.cases(self, asked)
            if (asked.name, case.key) in self.share and not (self.number and asked.is_standalone(case))
        )

    def replicate(self, number: int, only: Sequence[str] | None = None) -> Iterator[Task]:
        """In the order in which the whole has them in its replicate."""
        for task in Plan.replicate(self, self.number + number, only):
            yield replace(task, replicate=number)

    def groups(self, number: int) -> list[tuple[str, ...]]:
        return Plan.groups(self, self.number + number)

    def measured_on(self, asked: Study, case: Case) -> tuple[str, ...]:
        """Without those that refuse the case, of which the first replicate says so."""
        backends = Plan.measured_on(self, asked, case)
        return tuple(name for name in backends if not (self.number and _refuses(case, name)))


def expected(plan: Plan, asked: Study, case: Case, replicate: int) -> set[tuple[str, int]]:
    """Backend and replicate of every outcome that belongs to a case in a replicate; empty where there is nothing to measure."""
    backends = plan.measured_on(asked, case)
    if asked.is_standalone(case):
        return {(name, number) for name in backends for number in range(asked.repetitions_of(case))} if not replicate else set()
    return {(name, replicate) for name in backends if not (replicate and _refuses(case, name))}


def seconds_of(plan: Plan, asked: Study, case: Case) -> float:
    """Predicted for the case in one replicate, on all of its backends."""
    own = asked.forecast(case) if asked.forecast else None
    running = [name for name in plan.measured_on(asked, case) if name == REFERENCE or not _refuses(case, name)]
    return (UNKNOWN_SECONDS if own is None else own) * max(1, len(running)) * asked.repetitions_of(case)


def _refuses(case: Case, backend: str) -> bool:
    return backend != REFERENCE and bool(static_unsupported_reason(case, backend))


# What tells machines apart, and what must not differ among those of a fleet.


def fingerprint(machine: str, described: Mapping[str, Any], protocol: int) -> str:
    """Equal where measurements are one series: processor, memory, GPUs with driver, governor, system and protocol."""
    cpu, gpus = described["cpu"], described["gpus"]
    drivers = None if gpus is None else [(gpu["name"], gpu["driver"], gpu["cuda"], gpu["power_limit_watts"]) for gpu in gpus]
    identity = [machine, cpu["usable_cores"], cpu["threads"], cpu["governor"], drivers, described["os"], protocol]
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:12]


def difference(here: Mapping[str, Any], there: Mapping[str, Any], builds: bool) -> str:
    """What of the software differs, as `numpy 2.3.5 and not 2.4.6`; empty where nothing does.

    builds: whether the build of a package (`+cpu`) and the BLAS count too, as they do among machines of one fingerprint.
    """
    found = []
    for name in ("protocol", "code", "python"):
        if here[name] != there[name]:
            found.append(f"{name} {there[name]} and not {here[name]}")
    for name in sorted(here["backends"].keys() | there["backends"].keys()):
        ours, theirs = here["backends"].get(name, "none"), there["backends"].get(name, "none")
        if ours != theirs:
            found.append(f"backend {name} {theirs} and not {ours}")
    for name in sorted(here["packages"].keys() | there["packages"].keys()):
        ours, theirs = here["packages"].get(name, "none"), there["packages"].get(name, "none")
        if ours != theirs and (builds or ours.partition("+")[0] != theirs.partition("+")[0]):
            found.append(f"{name} {theirs} and not {ours}")
    if builds and here["blas"] != there["blas"]:
        found.append(f"blas {there['blas']} and not {here['blas']}")
    return ", ".join(found)


def software(described: Mapping[str, Any], backends: Mapping[str, str], protocol: int = environment.PROTOCOL) -> dict[str, Any]:
    """What `difference` compares, of an environment and the user's own backends.

    Not lstm-bench's own version: its code is compared, and travels, whether or not it is installed there.
    """
    packages = {name: version for name, version in described["packages"].items() if name != "lstm-bench"}
    of_environment = {name: described[name] for name in ("code", "python", "blas")}
    return {"protocol": protocol, "backends": dict(backends), "packages": packages} | of_environment


def own_backends() -> dict[str, str]:
    """The hash of each backend that is the user's, by name; those of this project are among the code."""
    found = {}
    for name in sorted(set(impls.names()) - set(impls.built_in())):
        its = importlib.util.find_spec(f"impls.backends.{name}")
        if its is not None and its.origin is not None:
            found[name] = hashlib.sha256(Path(its.origin).read_bytes()).hexdigest()[:16]
    return found
