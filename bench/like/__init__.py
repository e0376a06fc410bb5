"""The LSTMs inside a user's own model, and the cases that measure them.

Shapes are read from ONNX, safetensors and PyTorch's state dicts, never the values of weights and never pickled code; a class is
imported and built, which runs the user's code. A model's LSTM has random weights here: its speed does not depend on them.
"""

from __future__ import annotations

import ast
import importlib
import json
import pickle
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.harness.case import Case
from bench.like import onnx_nodes
from bench.like.weights import Found, Reading, Tensors, UnreadableModel, tensors
from impls import LSTMSpec, Phase
from impls.specs.recurrent import Device, DType

PREFIX = "like-"  # of the workload's name in records
STEPS, BATCH = 100, 1  # where neither the file nor the user says
STATE_DICTS = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (".onnx", ".safetensors", *STATE_DICTS)
WAYS = f"a file ({', '.join(SUFFIXES)}) or a class, as package.module:Class"


@dataclass(frozen=True, slots=True)
class Model:
    """What was found in a model.

    Attributes:
        name: the workload's, as records have it.
        origin: a sentence on where its LSTMs were read.
        found: those of different sizes, in the model's order.
        notes: what was left out, and what is measured in another form than the model has.
    """

    name: str
    origin: str
    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()


def read(source: str, arguments: Sequence[str] = ()) -> Model:
    """The LSTMs of a model.

    Args:
        source: a file, or `package.module:Class` (or a function that returns a `torch.nn.Module`), looked for in the current
            folder too.
        arguments: of the class, each as `name=value`, a value being a Python literal or else text.

    Raises:
        UnreadableModel: there is no such model, it cannot be read, or it has no LSTM.
    """
    path, reading = Path(source), Reading()
    module, colon, attribute = source.partition(":")
    if path.suffix.lower() in SUFFIXES or path.exists():
        if arguments:
            raise UnreadableModel(f"{source} is a file, which takes no arguments; leave out {arguments[0]}, or name a class")
        name, origin = path.stem, f"read from the shapes in {path.name}; no weight was loaded"
        _file(path, reading)
    elif colon and re.fullmatch(r"[\w.]+", module) and re.fullmatch(r"[\w.]+", attribute):
        name, given = attribute.rpartition(".")[2], ", ".join(arguments)
        origin = f"built by running the code of {source}({given})"
        tensors(_built(source, module, attribute, arguments), reading)
    else:
        raise UnreadableModel(f"no model {source!r}: there is no such file, and it names no class; give {WAYS}")
    if not reading.found:
        more = f" ({'; '.join(reading.notes)})" if reading.notes else ""
        raise UnreadableModel(f"no LSTM was found in {source}{more}; LSTMs are known by the names of torch.nn.LSTM and "
                              "LSTMCell (weight_ih_l0, weight_hh_l0, …) or as ONNX nodes of type LSTM")  # fmt: skip
    return Model(PREFIX + re.sub(r"[^\w.]+", "_", name), origin, reading.distinct(), tuple(reading.notes))


def cases(
    model: Model,
    device: Device,
    *,
    steps: int | None = None,
    batch: int | None = None,
    phases: Sequence[Phase] = (),
    dtypes: Sequence[DType] = (),
) -> tuple[Case, ...]:
    """What is measured of a model: each of its LSTMs in each phase and data type, on a GPU launched one by one and as a graph.

    Args:
        model: from `read`.
        device: to measure on.
        steps, batch: of a call; the file's where it fixes them, else `STEPS` and `BATCH`, if None.
        phases: that in which the model calls it if empty. A bidirectional LSTM has no step.
        dtypes: the model's own if empty.

    Raises:
        InvalidCase: a number or phase that no case can have.
        UnreadableModel: none of its LSTMs has such a phase.
    """
    made = []
    for one in model.found:
        factors = (("workload", model.name), ("module", one.name), ("copies", one.copies))
        for dtype in dtypes or (one.spec.dtype,):
            spec = replace(one.spec, dtype=dtype, device=device)
            for phase in phases or (one.phase,):
                if phase == "step" and spec.bidirectional:
                    continue
                sizes = (steps or one.steps or STEPS) if phase != "step" else 1, batch or one.batch or BATCH
                eager = Case(spec, *sizes, phase, factors=factors)
                made += [eager] if device == "cpu" else [eager, replace(eager, launch="graph")]
    if not made:
        raise UnreadableModel(f"every LSTM of {model.name} reads both directions, which no stream can; ask for --phase forward")
    return tuple(made)


def sentences(model: Model, steps: int | None, batch: int | None, phases: Sequence[Phase]) -> Iterator[str]:
    """What a user must know of a model before it is measured: where it comes from, its LSTMs, what was assumed."""
    yield f"{model.name}: {model.origin}"
    for one in model.found:
        others = f", and {one.copies - 1} more of its sizes" * (one.copies > 1)
        cell = "; a cell, measured as one layer of torch.nn.LSTM step by step" * (one.phase == "step")
        yield f"  {one.name}: {described(one.spec)}{others}{cell}"
    yield from (f"  {note}" for note in model.notes)
    whole = [one for one in model.found if set(phases or (one.phase,)) != {"step"}]  # of a step there is one
    assumed = [f"steps {STEPS} (--steps)"] * (steps is None and any(one.steps is None for one in whole))
    assumed += [f"batch {BATCH} (--batch)"] * (batch is None and any(one.batch is None for one in model.found))
    if assumed:
        yield f"  assumed, since the model does not say: {', '.join(assumed)}"


def described(spec: LSTMSpec) -> str:
    """As `LSTM 512 → 256, 2 layers, both directions, projection to 128, no bias, float32`."""
    parts = [f"LSTM {spec.input_size} → {spec.hidden_size}", f"{spec.num_layers} layer{'s'[: spec.num_layers != 1]}"]
    parts += ["both directions"] * spec.bidirectional + [f"projection to {spec.proj_size}"] * bool(spec.proj_size)
    return ", ".join([*parts, *["no bias"] * (not spec.bias), spec.dtype])


# Files and classes, as tables of shapes.


def _file(path: Path, reading: Reading) -> None:
    kind = path.suffix.lower()
    try:
        if kind == ".onnx":
            onnx_nodes.read(path, reading)
        elif kind == ".safetensors":
            tensors(_safetensors(path), reading)
        elif kind in (*STATE_DICTS, ".jit", ".torchscript"):  # which are told what to save instead
            tensors(_state_dict(path), reading)
        else:
            raise UnreadableModel(f"cannot tell what {path} is by its name; give {WAYS}")
    except OSError as error:
        raise UnreadableModel(f"cannot read {path}: {error.strerror or error}; give {WAYS}") from error


def _safetensors(path: Path) -> Tensors:
    """Its first bytes: the length of a header, and that header as JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise UnreadableModel(f"{path} is no safetensors file: its header would be longer than the file; export it again")
        try:
            header = json.loads(file.read(length))
            return {name: (tuple(tensor["shape"]), tensor["dtype"]) for name, tensor in header.items()
                    if name != "__metadata__"}  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableModel(f"{path} is no safetensors file: its header cannot be read; export it again") from error


SAVE = "torch.save(model.state_dict(), 'weights.pt')"


def _state_dict(path: Path) -> Tensors:
    """Shapes alone: tensors are put on no device. Code in a pickle is never run."""
    torch = _torch(f"reading {path.name}")
    if zipfile.is_zipfile(path) and any("/code/" in name for name in zipfile.ZipFile(path).namelist()):
        raise UnreadableModel(
            f"{path} is a TorchScript archive, which holds code; where you trust it, save its weights alone with: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
        )
    try:
        saved = torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnreadableModel(
            f"{path} is no file of weights alone: a module that was pickled whole, which would run code when it is loaded, or "
            f"a torn file; where you trust it, save its weights alone with: {SAVE}, or name its class as package.module:Class"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise UnreadableModel(f"{path} is no file of torch.save; write one with: {SAVE}") from error
    return dict(_flat(saved, torch.Tensor))


def _flat(values: Any, tensor: type, prefix: str = "") -> Iterator[tuple[str, tuple[tuple[int, ...], str]]]:
    """Every tensor of nested tables, as checkpoints of trainers have them, by its dotted name."""
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, tensor):
            yield f"{prefix}{name}", (tuple(value.shape), str(value.dtype))  # pyright: ignore[reportAttributeAccessIssue]
        else:
            yield from _flat(value, tensor, f"{prefix}{name}.")


def _torch(what: str) -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UnreadableModel(
            f"{what} needs PyTorch, which is not installed here; install it with: pip install torch"
        ) from error


def _built(source: str, module: str, attribute: str, arguments: Sequence[str]) -> Tensors:
    """The tensors of a class that is imported and built here."""
    torch = _torch(f"building {source}")
    given = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise UnreadableModel(f"cannot read the argument {argument!r}; write it as name=value, as hidden_size=256")
        try:
            given[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            given[name] = value
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that nothing there stands in for our packages
    try:
        made: Any = importlib.import_module(module)
        for part in attribute.split("."):
            made = getattr(made, part)
        if not isinstance(made, torch.nn.Module):
            made = made(**given)
    except Exception as error:  # whatever the user's code raises
        raise UnreadableModel(
            f"{source} could not be built: {type(error).__name__}: {error}; it is imported from the current folder or an "
            "installed package, and called with what --like-arg name=value gives"
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise UnreadableModel(f"{source} gives a {type(made).__name__}, and no torch.nn.Module; name a class that is one")
    return dict(_flat(made.state_dict(), torch.Tensor))
