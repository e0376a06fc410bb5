"""Options that name a model of the user's, and what they ask to be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from lstm_bench import terminal
from lstm_bench.errors import UserError

if TYPE_CHECKING:
    from bench.harness.case import Case

PANEL = "A model of yours"
Like = Annotated[
    str,
    typer.Option(
        "--like", metavar="FILE|module:Class", rich_help_panel=PANEL,
        help="Measure the LSTMs of this model: ONNX, safetensors or a state dict (shapes alone), or a class that is built, "
        "which runs its code.",
    ),
]  # fmt: skip
LikeArg = Annotated[
    list[str] | None,
    typer.Option("--like-arg", metavar="name=value", rich_help_panel=PANEL, help="Argument of the class; repeat for more."),
]
Steps = Annotated[
    int | None, typer.Option(min=1, rich_help_panel=PANEL, help="Steps of a call (default: the model's input, else 100).")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, rich_help_panel=PANEL, help="Batch size (default: the model's input, else 1).")
]
Phases = Annotated[
    list[str] | None,
    typer.Option(
        "--phase", rich_help_panel=PANEL,
        help="forward, forward_backward or step; repeat for more (default: forward, of an LSTMCell step).",
    ),
]  # fmt: skip
DTypes = Annotated[
    list[str] | None,
    typer.Option("--dtype", rich_help_panel=PANEL, help="Data type; repeat for more (default: the model's own)."),
]


class NoModel(UserError, ValueError):
    """An option of a model where none was named."""


def cases(
    what: str,
    like: str,
    like_arg: list[str] | None = None,
    *,
    steps: int | None = None,
    batch: int | None = None,
    phase: list[str] | None = None,
    dtype: list[str] | None = None,
    say: Callable[[str], None] = terminal.say,
) -> tuple[Case, ...]:
    """The cases of the user's model on the device of the suite `what`; none where no model is named.

    Args:
        what: the suite.
        like, like_arg, steps, batch, phase, dtype: the options of those names.
        say: is told what was found in the model, and what was assumed.

    Raises:
        NoModel: an option of a model was given, and no model.
        impls.UnknownName: no such suite, phase or data type.
        bench.like.UnreadableModel: the model's LSTMs cannot be read.
    """
    given = {"like-arg": like_arg, "steps": steps, "batch": batch, "phase": phase, "dtype": dtype}
    if not like:
        if named := [name for name, value in given.items() if value]:
            raise NoModel(f"--{named[0]} is of a model of yours; name that too, with --like FILE or --like module:Class")
        return ()
    from bench import like as models
    from bench.harness.case import PHASES
    from bench.harness.suites import SUITES, offered
    from impls import UnknownName
    from impls.specs.recurrent import DType

    for kind, names, choices in (
        ("suite", [what], offered()), ("phase", phase or [], PHASES), ("data type", dtype or [], get_args(DType))
    ):  # fmt: skip
        for name in names:
            if name not in choices:
                raise UnknownName(kind, name, choices)
    model = models.read(like, like_arg or ())
    phases: Any = phase or ()
    chosen = models.cases(
        model, cast(Any, SUITES[what].device), steps=steps, batch=batch, phases=phases, dtypes=cast(Any, dtype or ()),
    )  # fmt: skip
    for line in models.sentences(model, steps, batch, phases):
        say(line)
    return chosen
