"""`lstm-bench certify`: this checkout against itself, and the certificate written beside what was measured."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

from analysis.regression import certificate
from analysis.regression.certificate import Certificate
from bench.harness.plan import Plan
from bench.harness.run import Listener
from bench.machine import environment
from bench.regression import comparison
from lstm_bench.commands import compare
from lstm_bench.commands.compare import HERE, Options


def certify(
    plan: Plan, pairs: int, root: Path, listener: Listener, options: Options, resume: bool = False
) -> tuple[Certificate, Path]:
    """Measure so many pairs of every case, whatever they show, and certify what they tell apart."""
    options = dataclasses.replace(options, memory=False, stages=(pairs,), confirming=False)
    with compare.contenders({"base": HERE, "new": HERE}, plan.threads, options) as sides:
        questions = comparison.questions(plan, sides, memory=False)
        with comparison.opened(plan, sides, root, listener, {"certify": pairs}, resume) as opened:
            compare.settle(opened.pairs, questions, lambda: compare.found(opened.pairs, sides, options))
            found = compare.found(opened.pairs, sides, options)
            path = opened.paths["base"]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        said = sides["base"].introduction
        made = certificate.certify(found, said.machine, said.protocol, plan.threads, plan.suite, now)
    return made, made.write(path.with_name(path.stem.removesuffix("-base") + certificate.SUFFIX))


def here(root: Path, threads: int, suite: str) -> Certificate | None:
    """This machine's newest certificate for the suite."""
    described = environment.describe(threads)
    return certificate.newest(root, environment.machine_name(described), environment.PROTOCOL, threads, suite)
