"""What a run will do: which cases, which backends, how often, at what pace. Kept in the run, so that it can be finished."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import impls
from bench.harness import case as harness_case
from bench.harness import study
from bench.harness.case import Case
from bench.harness.study import Scale, Study
from bench.harness.suites import SUITES, Pace, offered, order
from bench.machine import environment, system
from bench.worker.prepare import NULL
from impls import Unavailable, UnknownName
from lstm_bench.errors import UserError

TEXT = ("source", "text")  # the factor of cases on real text
WORKLOADS, WORKLOAD = "workloads", "workload"  # the study of models in use, and the factor that names one
MACHINE = "machine"  # stands in the place of a backend where the machine itself is measured


class InvalidPlan(UserError, ValueError):
    """A number that no plan can have; the message says what was asked and what is allowed."""


@dataclass(frozen=True, slots=True)
class Task:
    """One case for several backends in one replicate."""

    study: Study
    case: Case
    backends: tuple[str, ...]
    replicate: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`filters` choose among the suite's cases; `time_budget` in seconds, None for the fixed number of replicates.

    items: of `bench.gpu_check.groups`, measured before the cases; with them the budget is a limit, and no time is filled up.
    emulated: our kernels run on the CPU; nothing that is measured is a number of a GPU, and every record says so.
    corpus: the beginning of the hash of the user's corpus, which stands in for other real text; "" for none.
    like: cases of a user's model (see `bench.like`), in place of those that the studies have.
    ranking_seconds: of the whole run, until which replicates are added where a ranking is open; None to add none.
    """

    suite: str
    studies: tuple[Study, ...]
    backends: tuple[str, ...]
    filters: tuple[str, ...] = ()
    threads: int = 1
    replicates: int = 1
    time_budget: float | None = None
    seed: int = 0
    items: tuple[str, ...] = ()
    emulated: bool = False
    corpus: str = ""
    like: tuple[Case, ...] = ()
    ranking_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the run's header keeps them; `like` and `ranking_seconds` only where there are some, since older
        versions know no such fields."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {"studies": self.study_names, "like": [case.to_dict() for case in self.like]}
        return {name: value for name, value in values.items() if value or name not in ("like", "ranking_seconds")}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Plan:
        """The inverse of `to_dict`; fields that an older run lacks have their defaults. Raises `UnknownName` for a study."""
        lists: dict[str, Any] = {name: tuple(values.get(name, ())) for name in ("backends", "filters", "items")}
        lists["studies"] = tuple(map(study.get, values.get("studies", ())))
        lists["like"] = tuple(map(Case.from_dict, values.get("like", ())))
        return Plan(**(values | lists))

    @property
    def study_names(self) -> tuple[str, ...]:
        """As records and pages name the studies."""
        return tuple(its.name for its in self.studies)

    @property
    def name(self) -> str:
        """The suite, or the study where only one was asked for."""
        if self.items:
            return "gpu-check-emulated" if self.emulated else "gpu-check"
        if self.like:
            return str(self.like[0].factor(WORKLOAD))
        return self.suite if self.study_names == studies_of(self.suite) else "-".join(self.study_names)

    @property
    def scale(self) -> Scale:
        """Of the cases that are measured."""
        return SUITES[self.suite].scale

    @property
    def pace(self) -> Pace:
        """The study's own where one was asked for by itself and has one, else the suite's."""
        own = _own_repeats(self.studies, self.suite)
        return own[1] if own else SUITES[self.suite].pace

    @property
    def device(self) -> str:
        """cpu or cuda."""
        return SUITES[self.suite].device

    def cases(self, asked: Study) -> tuple[Case, ...]:
        """The study's cases at this scale that pass the filters. Raises `InvalidFilter` or `UnknownName` for a filter."""
        if self.like:
            return harness_case.choose(self.like, self.filters)
        cases = _all_cases(asked, self.scale, self.corpus)
        if not self.filters:
            return cases
        return harness_case.choose(cases, self.filters, _parameters(self.study_names, self.scale, self.corpus))

    def peak_dtypes(self) -> list[str]:
        """Data types whose peaks are measured: those of cases that a backend runs for its own sake."""
        if not SUITES[self.suite].peaks:
            return []
        found = [(its, case) for its in self.studies for case in self.cases(its)]
        return sorted({case.spec.dtype for its, case in found if its.select_backends is None or not its.is_standalone(case)})

    def compared(self) -> tuple[str, ...]:
        """The backends whose numbers are compared: all but the no-op baseline."""
        return tuple(name for name in self.backends if name != NULL)

    def replicate(self, number: int, only: Sequence[str] | None = None) -> Iterator[Task]:
        """One replicate's tasks, shuffled; `only` keeps the cases with these keys.

        Standalone cases are not among them (see `standalone`).
        """
        shuffled = random.Random(f"{self.seed} {number}")
        asked = [(its, case) for its in self.studies for case in self.cases(its) if only is None or case.key in only]
        tasks = [(its, case) for its, case in asked if not its.is_standalone(case)]
        shuffled.shuffle(tasks)
        for its, case in tasks:
            backends = self.measured_on(its, case)
            yield Task(its, case, tuple(shuffled.sample(backends, len(backends))), number)

    def stages(self, number: int) -> Iterator[list[Task]]:
        """One replicate's tasks in the suite's stages."""
        tasks, size = list(self.replicate(number)), SUITES[self.suite].stage
        place = {case.key: index for its in self.studies for index, case in enumerate(self.cases(its))}
        for first in range(0, len(place), size or max(1, len(place))):
            yield [task for task in tasks if size is None or first <= place[task.case.key] < first + size]

    def standalone(self) -> Iterator[Task]:
        """Cases that a study measures by itself, each as often as the study says: replicates from 0 on."""
        for its in self.studies:
            for case in self.cases(its):
                if its.is_standalone(case):
                    backends = self.measured_on(its, case)
                    yield from (Task(its, case, backends, number) for number in range(its.repetitions_of(case)))

    def groups(self, number: int) -> list[tuple[str, ...]]:
        """Backends whose workers live side by side in this replicate, group by group.

        On a CPU all of them. On a GPU those of one framework, since JAX and PyTorch would each count the other's memory as its
        own; the order of the groups is reversed from replicate to replicate.
        """
        if self.device == "cpu":
            return [self.compared()]
        found: dict[str, list[str]] = {}
        for name in self.compared():
            found.setdefault(impls.facts(name).framework, []).append(name)
        return order([tuple(names) for names in found.values()], number)

    def begins_with(self, number: int) -> list[Task]:
        """Of the standalone cases, what the fresh workers of this replicate are asked first: one case a replicate.

        Not in the first replicate, whose first calls are timed with nothing compiled yet.
        """
        tasks = [task for task in self.standalone() if task.study.needs_fresh_worker]
        return tasks[number - 1 : number] if 0 < number < self.replicates else []

    def measured_on(self, asked: Study, case: Case) -> tuple[str, ...]:
        """Of the backends compared, those that a study wants a case measured on."""
        return asked.select_backends(case, self.compared()) if asked.select_backends else self.compared()


def make(
    what: str,
    backends: Sequence[str] = (),
    where: Sequence[str] = (),
    *,
    threads: int | None = None,
    replicates: int | None = None,
    time_budget: float | None = None,
    scale: str | None = None,
    seed: int = 0,
    corpus: str = "",
    like: Sequence[Case] = (),
    adapt: bool = False,
) -> Plan:
    """The plan for a suite or a study.

    Args:
        what: name of a suite, or of a study.
        backends: those compared; the suite's if empty.
        where: filters, as `bench.harness.case.read` takes them.
        threads: of each worker, at most the usable processors; all of those if None.
        replicates: the study's own or the suite's if None.
        time_budget: seconds to fill; None for the fixed number of replicates.
        scale: of a study, by a suite's name; `quick`, or `cpu` where that has no case, if None.
        seed: of the order of cases and backends.
        corpus: the beginning of the hash of the user's corpus.
        like: cases of a user's model, measured as those of the study `workloads` at the pace of the suite `what`.
        adapt: add replicates where a ranking is open, if the suite does and neither their number nor the time is given.

    Raises:
        UnknownName: there is no such suite, study, backend or parameter.
        InvalidFilter: a filter cannot be read, or no case passes them.
        InvalidPlan: a number is out of its range.
    """
    for name, value in (("threads", threads), ("replicates", replicates)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise InvalidPlan(f"{name} must be a whole number of at least 1; got {value!r}")
    if time_budget is not None and (not isinstance(time_budget, int | float) or not time_budget > 0):
        raise InvalidPlan(f"a time budget must be a number of seconds of more than 0; got {time_budget!r}")
    for name in backends:
        if name not in impls.names():
            raise UnknownName("backend", name, impls.names())
    suite = suite_of(what, scale)
    if like and (what not in SUITES or SUITES[what].device != like[0].spec.device):
        raise InvalidPlan(f"the cases of a model are measured as a suite of its device does; got {what!r}; choose from "
                          f"{', '.join(name for name in offered() if SUITES[name].device == like[0].spec.device)}")  # fmt: skip
    names = (WORKLOADS,) if like else studies_of(what) if what in SUITES else (what,)
    studies, headline = tuple(map(study.get, names)), bool(like) or names == studies_of(suite)
    usable, own = len(system.usable()), _own_repeats(studies, suite)
    plan = Plan(
        suite=suite,
        studies=studies,
        backends=tuple(dict.fromkeys(backends))
        or (SUITES[suite].backends if headline else ())
        or tuple(impls.offered(SUITES[suite].device)),
        filters=tuple(where),
        threads=min(threads or usable, usable),
        replicates=replicates or (own[0] if own else SUITES[suite].replicates),
        time_budget=time_budget,
        seed=seed,
        corpus=corpus,
        like=tuple(like),
        ranking_seconds=SUITES[suite].ranking_seconds if adapt and not (replicates or time_budget or own) else None,
    )
    if not any(map(plan.cases, studies)):
        whole = [case for its in studies for case in dataclasses.replace(plan, filters=()).cases(its)]
        choices = harness_case.alternatives(whole, where)
        asked = " and ".join(where)
        raise harness_case.InvalidFilter(f"no case of {what} passes {asked}{choices}; see them with: lstm-bench list {what}")
    return plan


def studies_of(suite: str) -> tuple[str, ...]:
    """The names of the studies a suite consists of."""
    return SUITES[suite].studies or tuple(study.names())


def suite_of(what: str, scale: str | None = None) -> str:
    """The suite that is meant by its name, or by a study's at a suite's scale. Raises `UnknownName`."""
    if what not in SUITES and what not in study.names():
        raise UnknownName("suite or study", what, [*offered(), *study.names()])
    suite = what if what in SUITES else scale or _default_scale(what)
    if suite not in SUITES:
        raise UnknownName("suite", suite, offered())
    return suite


def require_device(plan: Plan) -> None:
    """Raise `Unavailable` where a plan is for a GPU and this machine has none; no framework is imported to find out."""
    if plan.device == "cuda" and environment.gpu_list() == []:  # where that is not known a worker will say
        what = (
            plan.suite
            if plan.study_names == studies_of(plan.suite)
            else f"{', '.join(plan.study_names)} at the scale of {plan.suite}"
        )
        raise Unavailable(
            f"{what} is for a GPU, and this machine has no NVIDIA GPU (NVML lists none); run it on a machine with one, or "
            "measure this CPU with: lstm-bench run quick"
        )


def _all_cases(asked: Study, scale: Scale, corpus: str) -> tuple[Case, ...]:
    cases = asked.cases.get(scale, ())
    return tuple(_on(case, corpus) if TEXT in case.factors else case for case in cases) if corpus else cases


@functools.lru_cache(maxsize=8)
def _parameters(names: tuple[str, ...], scale: Scale, corpus: str) -> harness_case.Known:
    """What a filter may name: a parameter of any study that is asked."""
    return harness_case.parameters(case for name in names for case in _all_cases(study.get(name), scale, corpus))


def _on(case: Case, corpus: str) -> Case:
    return dataclasses.replace(case, factors=(*case.factors, ("corpus", corpus)))


def _own_repeats(studies: Sequence[Study], suite: str) -> tuple[int, Pace] | None:
    return studies[0].repeats.get(SUITES[suite].scale) if len(studies) == 1 else None


def _default_scale(study_name: str) -> str:
    cases = study.get(study_name).cases
    return next(name for name in ("quick", "cpu", *SUITES) if cases.get(SUITES[name].scale))
