"""The commands. Each imports what it needs when it runs, so that `--help` imports no framework."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lstm_bench import errors, terminal
from lstm_bench.commands import advise, fleet, gpu_check, regression_commands
from lstm_bench.commands import like as likes
from lstm_bench.commands.command_groups import Commands, placed
from lstm_bench.device_policy import DryRun, Wait
from lstm_bench.errors import ExitCode

app = typer.Typer(
    cls=Commands,
    name="lstm-bench",
    help="Compare LSTM implementations on this machine, honestly measured.",
    epilog="All options of a command: lstm-bench COMMAND --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from lstm_bench import UNINSTALLED, __version__

        uninstalled = __version__ == UNINSTALLED
        print("lstm-bench, from a checkout that is not installed" if uninstalled else f"lstm-bench {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


SUITE_OR_STUDY = (
    "A suite, which is how much to measure (smoke, quick, cpu, gpu), or one study, which is what to find out (throughput, "
    "memory, gradients ...); see both with: lstm-bench list."
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder of results (default: ./results/runs).")]
Runs = Annotated[list[Path] | None, typer.Argument(help="Run files or folders; default: the newest run.")]

RunsOfStudies = Annotated[list[Path] | None, typer.Argument(help="Run files or folders; default: each study's newest run.")]


@app.command(**placed("doctor"))
def doctor(
    as_json: AsJson = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also compute a small network on each backend and validate its outputs.")
    ] = False,
) -> None:
    """Say what runs here, what is missing and how to get it, and how noisy this machine is."""
    from lstm_bench.views import doctor as views_doctor

    views_doctor.doctor(as_json, thorough)


@app.command(**placed("list"))
def list_(
    what: Annotated[str, typer.Argument(help="A suite or study whose cases to list; default: all names.")] = "",
    where: Annotated[list[str] | None, typer.Option("--where", help="Only cases like hidden_size=256 or batch<=8.")] = None,
    as_json: AsJson = False,
    *,
    like: likes.Like = "",
    like_arg: likes.LikeArg = None,
    steps: likes.Steps = None,
    batch: likes.BatchSize = None,
    phase: likes.Phases = None,
    dtype: likes.DTypes = None,
) -> None:
    """List suites, studies and backends, or the cases of one suite, study or model of yours."""
    from lstm_bench.views import tables

    of_model = likes.cases(what or "quick", like, like_arg, steps=steps, batch=batch, phase=phase, dtype=dtype)
    if what or of_model:
        tables.cases(what or "quick", where or [], as_json, of_model)
    else:
        tables.names(as_json)


@app.command(**placed("run"))
def run(
    what: Annotated[str, typer.Argument(help=SUITE_OR_STUDY)] = "quick",
    *,
    backend: Annotated[list[str] | None, typer.Option("--backend", help="Only this backend; repeat for more.")] = None,
    where: Annotated[list[str] | None, typer.Option("--where", help="Only cases like hidden_size=256 or batch<=8.")] = None,
    out: OutFolder = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish the newest interrupted run instead.")] = False,
    time_budget: Annotated[
        str, typer.Option("--time-budget", help="Total time, as 10m: spent where the intervals are widest.")
    ] = "",
    threads: Annotated[int | None, typer.Option(min=1, help="Processors every backend may use (default: all).")] = None,
    replicates: Annotated[
        int | None,
        typer.Option(min=1, help="Fresh processes per case (default: the suite's; quick adds some where a ranking is open)."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="For a study: the suite at whose scale to measure it (default: quick).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order in which cases run.")] = 0,
    corpus: Annotated[
        Path | None, typer.Option(help="File of text or any bytes to train on, instead of Python's own source.")
    ] = None,
    dry_run: DryRun = False,
    show: Annotated[
        bool, typer.Option("--open", help="Show the page in the web browser while it fills; the report is written to ./report.")
    ] = False,
    wait: Wait = False,
    like: likes.Like = "",
    like_arg: likes.LikeArg = None,
    steps: likes.Steps = None,
    batch: likes.BatchSize = None,
    phase: likes.Phases = None,
    dtype: likes.DTypes = None,
    on_fleet: fleet.Address = "",
    copy_to: Annotated[str, typer.Option(help="Also copy the run to this address when it ends, as s3://bucket/runs.")] = "",
) -> None:
    """Measure, writing every outcome as soon as it exists. Ctrl-C leaves a valid run that --resume finishes."""
    from bench.harness import session
    from bench.machine import system
    from lstm_bench import api, device_policy
    from lstm_bench.views import dry_run as dry_runs
    from lstm_bench.views import progress, run_summary

    budget = run_summary.seconds(time_budget) if time_budget else None
    options: dict[str, Any] = {
        "threads": threads, "replicates": replicates, "time_budget": budget, "scale": scale, "seed": seed, "corpus": corpus,
    }  # fmt: skip
    if of_model := likes.cases(what, like, like_arg, steps=steps, batch=batch, phase=phase, dtype=dtype):
        options["like"] = of_model
    if dry_run:
        if resume:
            raise errors.UserError("--dry-run plans a new run, and --resume goes on with one; leave one of them out")
        return dry_runs.show(dry_runs.values(api.planned(what, backend or (), where or (), **options)))
    if on_fleet:
        if of_model or show:
            raise errors.UserError("--like and --open are of runs on this machine; leave out --fleet, or them")
        return fleet.command(
            on_fleet, what, out, time_budget, copy_to, wait=wait, resume=resume, corpus=corpus, backends=backend or (),
            where=where or (), threads=threads, replicates=replicates, scale=scale, seed=seed,
        )  # fmt: skip
    system.require_measuring()
    fleet.require_copy(copy_to)
    with contextlib.ExitStack() as stack:
        page = None
        if show:
            from lstm_bench.views import live

            page = stack.enter_context(live.LivePage())
            live.watched(page)
            options["on_file"] = page.begin
        try:
            with progress.for_terminal() as display, device_policy.announced(wait):
                ended, footer = api.measured_run(
                    page.beside(display) if page else display, terminal.say, what, backends=backend or (), where=where or (),
                    out=out, resume=resume, **options,
                )  # fmt: skip
        except session.Interrupted as stop:
            print(run_summary.interrupted(stop.path, "run", out=out, corpus=corpus), file=sys.stderr)
            fleet.copy([stop.path], out, copy_to)
            sys.exit(ExitCode.INTERRUPTED)
        print(f"{ended.path}")
        fleet.copy([ended.path], out, copy_to)
        for line in (*run_summary.lines(ended, footer), *run_summary.rankings(ended)):
            terminal.say(line)
        if page:
            from analysis.report import page as reports

            written = reports.build([ended.path]).html
            print(written)
            page.finish(written)
    if any(record.status == "failed" for record in ended.records):
        sys.exit(1)


@app.command(**placed("show"))
def show(runs: Runs = None, out: OutFolder = None, as_json: AsJson = False) -> None:
    """Show a run's results in the terminal."""
    from lstm_bench.views import tables

    tables.show(runs or (), out, as_json)


@app.command(**placed("claims"))
def claims(runs: RunsOfStudies = None, out: OutFolder = None, as_json: AsJson = False) -> None:
    """Show the claims that runs tested: verdict, our number with its interval, the published value.

    Without RUNS: of each study its newest run on the machine that measured last (a smoke run only where there is no other).
    With several runs a claim has one row a machine, from the newest run that measured anything of it.
    """
    from lstm_bench.views import tables

    tables.claims(runs or (), out, as_json)


def _prices(given: list[str] | None) -> dict[str, float]:
    """By name of the machine; "" stands for all that are not named. Raises `InvalidPrice`."""
    from analysis.report.load import InvalidPrice

    found: dict[str, float] = {}
    for text in given or ():
        name, _, amount = text.rpartition("=")
        try:
            value = float(amount)
        except ValueError:
            raise InvalidPrice(f"cannot read {text!r} as a price; write it as 1.20, or of one machine as H100=1.20") from None
        if name in found:
            raise InvalidPrice(f"{f'{name} has' if name else 'all machines have'} two prices; give one")
        found[name] = value
    return found


@app.command(**placed("report"))
def report(
    runs: Runs = None,
    to: Annotated[Path, typer.Option("--to", help="Folder to write report.html, report.md and figures to.")] = Path("report"),
    baseline: Annotated[
        str | None,
        typer.Option(help="Backend that the others are compared with (default: torch, or cudnn where torch has no peer)."),
    ] = None,
    statistic: Annotated[str, typer.Option(help="Of the samples of a round: median, p25 or min.")] = "median",
    *,
    price: Annotated[
        list[str] | None,
        typer.Option(
            help="Price of an hour, in any currency: adds what a million tokens cost. Of one machine: NAME=1.20; repeatable."
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the web browser.")] = False,
    out: OutFolder = None,
) -> None:
    """Write a self-contained HTML page and its Markdown version."""
    from analysis.report import page as reports
    from analysis.statistics import ratios
    from results import store

    made = reports.build(runs or (), to, baseline, ratios.statistic_named(statistic), out or store.ROOT, price=_prices(price))
    print(made.html, *made.others, sep="\n")
    if show:
        terminal.open_page(made.html.resolve().as_uri(), str(made.html))


@app.command(**placed("export"))
def export(
    to: Annotated[Path, typer.Argument(help="File to write, ending in .parquet or .csv.")],
    runs: Runs = None,
    out: OutFolder = None,
) -> None:
    """Write every sample of the runs to one table, one row a sample."""
    from analysis.report import export as exports
    from results import store

    print(exports.export(runs or (), to, root=out or store.ROOT))


app.command(**placed("advise"))(advise.advise)
app.command(**placed("gpu-check"))(gpu_check.gpu_check)
for command in (
    regression_commands.compare, regression_commands.calibrate, regression_commands.bisect, regression_commands.track,
    regression_commands.history,
):  # fmt: skip
    app.command(**placed(command.__name__, errors.epilog()))(command)
app.command(**placed("import"))(regression_commands.import_)
