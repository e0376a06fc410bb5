"""What `advise` prints: for each call the way to take, its gain and error, and the code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.padding import Padding

from analysis.report import load, words
from analysis.studies.workloads import advice
from analysis.studies.workloads.advice import Advice, Way
from lstm_bench import recipes
from lstm_bench.views import tables


@dataclass(frozen=True, slots=True)
class Shown:
    """A piece of advice with its text: `title`, `sentences`, and programs by what they are for."""

    advice: Advice
    title: str
    sentences: tuple[str, ...]
    programs: tuple[tuple[str, str], ...]


def found(path: Path) -> Iterator[Shown]:
    """The advice that a run's numbers give, call by call."""
    for section in load.load([path]):
        threads = max(int(run.header.plan.get("threads") or 1) for run in section.runs)
        for each in advice.advise(section.records, section.series):
            yield shown(each, threads)


def noise(path: Path) -> str | None:
    """A sentence where the machine was noisy while the run was measured."""
    from bench.machine import noise as machine_noise
    from results import store

    return machine_noise.sentence_after(store.read(store.only(path)).records)


def shown(each: Advice, threads: int) -> Shown:
    programs = [(f"{_way(way)}:", recipes.code(way, each.call, threads)) for way in (each.best, *each.changing)
                if way and not each.call.get("ragged")]  # fmt: skip
    return Shown(each, _title(each.call), tuple(_sentences(each)), tuple(programs))


def _title(call: dict[str, Any]) -> str:
    name = [str(call[part]) for part in ("workload", "module") if call.get(part)]
    sizes = f"LSTM {call['input_size']:.0f} → {call['hidden_size']:.0f}"
    parts = [f"{call['num_layers']:.0f} layers"] * (call["num_layers"] > 1) + ["both directions"] * bool(call["bidirectional"])
    parts += [f"projection to {call['proj_size']:.0f}"] * (call["proj_size"] > 0) + ["no bias"] * (not call["bias"])
    size = f"B{call['batch']:.0f}" if call["phase"] == "step" else f"T{call['steps']:.0f} B{call['batch']:.0f}"
    where = f"{words.PHASES[call['phase']]}, {size}, {call['dtype']} on {call['device']}"
    return ", ".join([*name, sizes, *parts, where])


def _way(way: Way) -> str:
    return f"{way.backend} in {way.dtype}" + (", launched as one CUDA graph" * (way.launch == "graph"))


def _gain(way: Way) -> str:
    assert way.gain is not None
    return f"{words.format_ratio(way.gain)} PyTorch's own, {words.format_si(way.seconds, 's')} a call"


def _sentences(each: Advice) -> Iterator[str]:
    own, dtype = each.own, each.call["dtype"]
    if own is None:
        baseline = advice.OWN[each.call["device"]]
        yield (f"PyTorch's own module ({baseline} in {dtype}) was not measured, so that no gain is known and nothing is "
               f"advised; measure it too: --backend {baseline}")  # fmt: skip
        return
    yield f"now: torch.nn.LSTM ({_way(own)}), {words.format_si(own.seconds, 's')} a call"
    if dtype == "float32" and each.call["device"] == "cuda":
        yield "that is without TF32, which PyTorch lets cuDNN use for float32 unless it is told otherwise"
    if each.best is None:
        ways = (
            f"{words.format_count(each.compared, 'other way')} in all data types" if each.compared else "no other was measured"
        )
        yield f"advice: keep it; in {dtype} nothing measured is surely faster ({ways})"
        if each.nearest:
            yield f"nearest to it: {_way(each.nearest)}: {_gain(each.nearest)}; more --replicates or an idle machine would tell"
    else:
        yield f"advice: {_way(each.best)}: {_gain(each.best)}; its numbers are within the tolerance of {dtype}"
        if each.tied:
            others = words.join_list([_way(way) for way in each.tied])
            yield f"no slower and no faster, as far as this run can tell: {others}; the advised one changes less of a program"
    for way in each.changing:
        yield f"if the numbers may change: {_way(way)}: {_gain(way)}; {_error(way, own)}"
    if each.best or each.changing:
        yield (f"the intervals hold for all {words.format_count(each.compared, 'way')} together, at 95 %")
    if each.call.get("ragged") and (each.best or each.changing):
        yield "no code is given for sequences of different lengths"
    for name, reason in each.failed:
        yield f"not advised: {name}: {reason}"


def _error(way: Way, own: Way) -> str:
    if way.error is None:
        return "by how much was not measured in this phase"
    exact = "" if own.error is None else f", where {own.dtype} is off by {own.error:.1g}"
    return f"its outputs are off by {way.error:.1g} of the largest{exact}"


def show(found: Sequence[Shown], noisy: str | None, as_json: bool) -> None:
    """Print it, the code as it is, so that it can be copied; at the end what makes all of it uncertain."""
    if as_json:
        return tables.print_json({"noise": noisy, "calls": [_plain(each) for each in found]})
    screen = tables.console()
    for each in found:
        screen.print(f"[bold]{escape(each.title)}[/]")
        for sentence in each.sentences:
            screen.print(Padding(escape(sentence), (0, 0, 0, 2), expand=False))
        for title, program in each.programs:
            screen.print(escape(f"\n  {title}\n"))
            print(program)
        screen.print()
    if noisy:
        screen.print(escape(noisy))


def _plain(each: Shown) -> dict[str, Any]:
    def way(of: Way | None) -> dict[str, Any] | None:
        if of is None:
            return None
        bounds = {"value": of.gain.value, "low": of.gain.low, "high": of.gain.high} if of.gain else None
        return {"backend": of.backend, "dtype": of.dtype, "launch": of.launch, "seconds": of.seconds, "error": of.error,
                "gain": bounds}  # fmt: skip

    its = each.advice
    return {
        "call": its.call, "own": way(its.own), "best": way(its.best), "nearest": way(its.nearest),
        "tied": [way(one) for one in its.tied], "changing": [way(one) for one in its.changing],
        "compared": its.compared, "failed": dict(its.failed), "sentences": each.sentences, "code": dict(each.programs),
    }  # fmt: skip
