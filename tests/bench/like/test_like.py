"""The LSTMs of models that were not written here, and of every size: each parameter is read as it is."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import onnx
import onnx.backend.test.case.node as cases_of_onnx
import onnx.backend.test.case.node.lstm
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bench import like
from bench.harness import plan
from bench.harness.case import InvalidCase
from bench.like import UnreadableModel, weights
from impls import LSTMSpec
from impls.frameworks.onnx import onnx_model
from impls.params import random_params

# The tensors of Silero VAD, snakers4/silero-vad@806dcba src/silero_vad/data/silero_vad_16k.safetensors, without their values.
SILERO = {
    "stft_conv.weight": [258, 1, 256], "conv1.weight": [128, 129, 3], "conv1.bias": [128], "conv2.weight": [64, 128, 3],
    "conv2.bias": [64], "conv3.weight": [64, 64, 3], "conv3.bias": [64], "conv4.weight": [128, 64, 3], "conv4.bias": [128],
    "lstm_cell.weight_ih": [512, 128], "lstm_cell.weight_hh": [512, 128], "lstm_cell.bias_ih": [512],
    "lstm_cell.bias_hh": [512], "final_conv.weight": [1, 128, 1], "final_conv.bias": [1],
}  # fmt: skip
SPECS = st.builds(
    lambda i, h, layers, bias, both, proj, dtype: LSTMSpec(i, h, layers, bias, both, dtype, proj_size=min(proj, h - 1)),
    st.integers(1, 9), st.integers(2, 9), st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 4),
    st.sampled_from(["float32", "float64", "float16", "bfloat16"]),
)  # fmt: skip


def module(spec: LSTMSpec) -> nn.LSTM:
    return nn.LSTM(spec.input_size, spec.hidden_size, spec.num_layers, bias=spec.bias, bidirectional=spec.bidirectional,
                   proj_size=spec.proj_size, dtype=getattr(torch, spec.dtype), device="meta")  # fmt: skip


def safetensors(path: Path, shapes: dict[str, list[int]], dtype: str = "F32") -> Path:
    """A file of zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * int(torch.Size(shape).numel())
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return path


def read_tensors(shapes: dict[str, tuple[tuple[int, ...], str]]) -> weights.Reading:
    reading = weights.Reading()
    weights.tensors(shapes, reading)
    return reading


@settings(max_examples=60, deadline=None)
@given(SPECS, st.sampled_from(["", "encoder.rnn."]))
def test_every_parameter_of_a_state_dict_is_read(spec: LSTMSpec, prefix: str):
    state = {prefix + name: (tuple(value.shape), str(value.dtype)) for name, value in module(spec).state_dict().items()}
    (found,) = read_tensors(state).found
    assert found.spec == spec and found.name == (prefix.rstrip(".") or "lstm") and found.phase == "forward"


@settings(max_examples=40, deadline=None)
@given(SPECS)
def test_every_parameter_of_an_onnx_file_is_read(spec: LSTMSpec):
    """Layers are nodes there, as PyTorch's exporter makes them too; a projection has no node in ONNX."""
    spec = dataclasses.replace(spec, dtype="float32", proj_size=0)
    model = onnx_model(spec, random_params(spec), ragged=False)
    (found,) = from_onnx(model)
    assert found.spec == spec and (found.steps, found.batch) == (None, None)


def from_onnx(model: onnx.ModelProto) -> tuple[weights.Found, ...]:
    return model_of(model).found


def model_of(model: onnx.ModelProto) -> like.Model:
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, Path(folder) / "model.onnx")
        return like.read(str(Path(folder) / "model.onnx"))


def test_a_state_dict_of_shapes_a_voice_detector(tmp_path: Path):
    found = like.read(str(safetensors(tmp_path / "silero_vad_16k.safetensors", SILERO)))
    assert found.name == "like-silero_vad_16k" and found.notes == ()
    assert found.found == (weights.Found("lstm_cell", LSTMSpec(128, 128), phase="step"),)
    (case,) = like.cases(found, "cpu")
    assert (case.phase, case.steps, case.batch) == ("step", 1, 1), "a cell is called step by step"
    assert "no weight was loaded" in found.origin


def test_the_test_data_of_onnx_itself():
    """Also what no backend here has is told of each."""
    models = {case.name: case.model for case in cases_of_onnx._NodeTestCases if case.kind == "node"}
    found = {name: model_of(model) for name, model in models.items()}
    read = {name: (one.spec, one.steps, one.batch) for name, its in found.items() for one in its.found}
    assert read["test_lstm_defaults"] == (LSTMSpec(2, 3, bias=False), 1, 3)
    assert read["test_lstm_with_initial_bias"] == (LSTMSpec(3, 4), 1, 3)
    assert read["test_lstm_with_peepholes"] == (LSTMSpec(4, 3), 1, 2)
    assert read["test_lstm_batchwise"] == (LSTMSpec(2, 7, bias=False), 1, 3)
    assert read["test_lstm_bidirectional"][0].bidirectional and not read["test_lstm_reverse"][0].bidirectional
    assert len(read) == len(models) >= 6
    assert "peepholes" in found["test_lstm_with_peepholes"].notes[0]
    assert "reads backwards in time" in found["test_lstm_reverse"].notes[0]
    assert found["test_lstm_defaults"].notes == found["test_lstm_bidirectional"].notes == ()
    case = like.cases(found["test_lstm_batchwise"], "cpu", steps=5)[0]
    assert (case.steps, case.batch) == (5, 3), "what is asked goes before what the file says"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::UserWarning")
def test_a_file_of_pytorchs_own_exporter(tmp_path: Path):
    path = tmp_path / "exported.onnx"
    torch.onnx.export(nn.LSTM(5, 7, 3, bidirectional=True), (torch.randn(11, 2, 5),), path, dynamo=False, verbose=False)
    (found,) = like.read(str(path)).found
    assert (found.spec, found.steps, found.batch) == (LSTMSpec(5, 7, 3, bidirectional=True), 11, 2)


def test_a_class_of_pytorchs_tests_is_built():
    """One that was not written here, with arguments."""
    name, arguments = "torch.testing._internal.common_pruning:LSTMLinearModel", ["6", "8", "2", "3"]
    given = [
        f"{key}={value}" for key, value in zip(("input_dim", "hidden_dim", "output_dim", "num_layers"), arguments, strict=True)
    ]
    found = like.read(name, given)
    assert found.found == (weights.Found("lstm", LSTMSpec(6, 8, 3)),)
    assert found.origin == f"built by running the code of {name}(input_dim=6, hidden_dim=8, output_dim=2, num_layers=3)"
    with pytest.raises(UnreadableModel, match="no LSTM was found"):
        like.read("torch.nn:Linear", ["in_features=2", "out_features=2"])


def test_a_class_of_the_current_folder_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\nclass Outer:\n  def make(size, layers=1):\n    return nn.ModuleDict("
        "{'a': nn.LSTM(size, 8, layers), 'b': nn.LSTM(size, 8, layers), 'c': nn.LSTMCell(size, 4), 'd': nn.GRU(size, 8)})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = like.read("my_models:Outer.make", ["size=3", "layers=2"])
    assert found.name == "like-make" and found.notes == ("left out d: by its shapes it is a GRU, and no LSTM",)
    first, cell = found.found
    assert (first.name, first.copies, first.spec) == ("a", 2, LSTMSpec(3, 8, 2)), "those of the same sizes are measured once"
    assert (cell.name, cell.copies, cell.spec, cell.phase) == ("c", 1, LSTMSpec(3, 4), "step")
    for arguments, said in (
        (["size"], "write it as name=value"),
        ([], "TypeError: .*missing"),
        (["size=-1"], "ValueError: input_size must"),
    ):
        with pytest.raises(UnreadableModel, match=said):
            like.read("my_models:Outer.make", arguments)
    with pytest.raises(UnreadableModel, match="gives a dict, and no torch"):
        like.read("builtins:dict")


class Whole(nn.Module):
    """Pickled whole, as loading it would run code."""

    ran: list[str] = []  # noqa: RUF012

    def __reduce__(self):
        return self.ran.append, ("code of the file",)


def test_a_pickled_module_is_refused_and_not_run(tmp_path: Path):
    for name, value in (("whole.pt", Whole()), ("module.pth", nn.LSTM(2, 2))):
        torch.save(value, tmp_path / name)
        with pytest.raises(UnreadableModel, match=r"would run code.*torch\.save\(model\.state_dict\(\), 'weights\.pt'\)"):
            like.read(str(tmp_path / name))
    assert Whole.ran == []


def test_state_dicts_of_checkpoints_are_read(tmp_path: Path):
    torch.save({"epoch": 3, "model": nn.LSTM(3, 8, 2, proj_size=4, bidirectional=True).state_dict()}, tmp_path / "last.ckpt")
    (found,) = like.read(str(tmp_path / "last.ckpt")).found
    assert (found.name, found.spec) == ("model", LSTMSpec(3, 8, 2, bidirectional=True, proj_size=4))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_read_says_how_to_give_it(tmp_path: Path):
    for name in ("script.pt", "script.jit"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / name)
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    files = {"torn.pt": b"no zip", "torn.safetensors": b"\xff" * 9, "text.safetensors": b"\1" + bytes(7) + b"x"}
    for name, content in (files | {"torn.onnx": b"\xff\xff\xff", "model.h5": b""}).items():
        (tmp_path / name).write_bytes(content)
    for name, said in {
        "script.pt": "TorchScript archive, which holds code", "script.jit": "TorchScript archive, which holds code",
        "linear.pt": "no LSTM was found", "torn.pt": "or a torn file",
        "torn.safetensors": "longer than the file", "text.safetensors": "header cannot be read", "torn.onnx": "no ONNX model",
        "model.h5": "cannot tell what", "nowhere.onnx": "cannot read .*No such file", "nowhere": "names no class",
    }.items():  # fmt: skip
        with pytest.raises(UnreadableModel, match=said):
            like.read(str(tmp_path / name))
    with pytest.raises(UnreadableModel, match="takes no arguments"):
        like.read(str(tmp_path / "linear.pt"), ["a=1"])
    with pytest.raises(UnreadableModel, match="nowhere:Class could not be built: ModuleNotFoundError"):
        like.read("nowhere:Class")


@pytest.mark.parametrize(("package", "source"), [("onnx", "model.onnx"), ("torch", "model.pt"), ("torch", "no.package:Class")])
def test_a_missing_package_is_named(package: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if ":" not in source:
        (tmp_path / source).touch()
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableModel, match=f"install it with: pip install {package}"):
        like.read(source if ":" in source else str(tmp_path / source))


@pytest.mark.parametrize(("change", "note"), [
    ({"weight_hh_l0": None}, "left out r: it has no weight_hh that is a matrix"),
    ({"weight_ih_l1": (32, 9)}, "r: its layers do not read each other's outputs alone; measured one by one"),
    ({"bias_hh_l0": (31,)}, "left out r.l0: its shapes are not those of one LSTM layer"),
    ({"weight_hh_l1_reverse": (32, 8), "weight_ih_l1_reverse": (32, 8)}, "left out r.l1: its shapes"),
])  # fmt: skip
def test_what_is_no_stack_is_told(change: dict[str, tuple[int, ...] | None], note: str):
    shapes = LSTMSpec(3, 8, 2).parameter_shapes() | change
    reading = read_tensors({f"r.{name}": (shape, "F32") for name, shape in shapes.items() if shape})
    assert any(each.startswith(note) for each in reading.notes), reading.notes
    assert all(one.spec.num_layers == 1 for one in reading.found)
    assert read_tensors({"r.weight_ih_l0": ((4, 1), "I8"), "r.weight_hh_l0": ((4, 1), "I8")}).notes == [
        "left out r: no backend here has its data type I8"
    ]


def test_onnx_nodes_that_do_not_feed_each_other_stay_apart():
    """Of two, one in a branch, whose weights are constants there."""
    spec = LSTMSpec(4, 4)
    model = onnx_model(dataclasses.replace(spec, num_layers=2), random_params(dataclasses.replace(spec, num_layers=2)), False)
    (stack,) = from_onnx(model)
    assert stack.spec.num_layers == 2
    second = [node for node in model.graph.node if node.op_type == "LSTM"][1]
    second.input[0] = "x"
    (apart,) = from_onnx(model)
    assert (apart.spec, apart.copies) == (spec, 2)
    del second.attribute[:]
    second.attribute.extend([helper.make_attribute("hidden_size", 4), helper.make_attribute("clip", 3.0)])
    second.input[0] = next(node.output[0] for node in model.graph.node if node.op_type == "Reshape")
    clipped = model_of(model)
    assert clipped.found[0].spec.num_layers == 2 and "a clip of its cells" in clipped.notes[0]


def test_an_lstm_in_a_branch_is_found():
    w, r = (numpy_helper.from_array(torch.zeros(1, 12, size).numpy()) for size in (2, 3))
    nodes = [helper.make_node("Constant", [], [name], value=value) for name, value in (("W", w), ("R", r))]
    nodes.append(helper.make_node("LSTM", ["X", "W", "R"], ["", "Y"], hidden_size=3))
    out = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
    branch = helper.make_graph(nodes, "branch", [], out)
    node = helper.make_node("If", ["which"], ["Z"], then_branch=branch, else_branch=branch)
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, [6, "B", 2])
    which = helper.make_tensor_value_info("which", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "main", [x, which], [helper.make_tensor_value_info("Z", TensorProto.FLOAT, None)])
    found = model_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    (one,) = found.found
    assert (one.spec, one.steps, one.batch, one.copies) == (LSTMSpec(2, 3, bias=False), 6, None, 2)
    assert "in branches or loops" in found.notes[0]


def test_the_cases_of_a_model_are_a_plan_that_can_be_finished():
    both, cell = LSTMSpec(4, 8, bidirectional=True), weights.Found("cell", LSTMSpec(4, 8), copies=3)
    model = like.Model("like-mine", "", (weights.Found("rnn", both), cell))
    cases = like.cases(model, "cpu", steps=7, batch=2, phases=["forward_backward", "step"], dtypes=["float32", "bfloat16"])
    assert len(cases) == 6, "no stream of a bidirectional network"
    made = plan.make("quick", ["numpy"], ["dtype=float32"], like=cases)
    assert made.name == "like-mine" and made.cases(made.studies[0]) == tuple(
        case for case in cases if case.spec.dtype == "float32"
    )
    assert plan.Plan.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert "like" not in plan.make("smoke").to_dict(), "older versions know no such field"
    assert all(case.counts()["tokens"] in (14, 2) for case in cases) and "copies=3" in cases[-1].key
    on_gpu = like.cases(model, "cuda", phases=["forward"])
    assert [case.launch for case in on_gpu] == ["eager", "graph"] * 2 and on_gpu[0].spec.device == "cuda"
    assert plan.make("gpu", like=on_gpu).backends == plan.SUITES["gpu"].backends
    for what in ("gpu", "workloads"):
        with pytest.raises(plan.InvalidPlan, match="choose from smoke, quick, cpu"):
            plan.make(what, like=cases)
    with pytest.raises(UnreadableModel, match="no stream can; ask for --phase forward"):
        like.cases(like.Model("like-b", "", model.found[:1]), "cpu", phases=["step"])
    with pytest.raises(InvalidCase):
        like.cases(model, "cpu", phases=[SimpleNamespace()])  # type: ignore[list-item]


def test_what_was_assumed_is_said():
    model = like.Model("like-mine", "read", (weights.Found("rnn", LSTMSpec(4, 8, bias=False), steps=6),), ("a note",))
    said = list(like.sentences(model, None, None, ()))
    assert said[:3] == ["like-mine: read", "  rnn: LSTM 4 → 8, 1 layer, no bias, float32", "  a note"]
    assert said[3].endswith("does not say: batch 1 (--batch)")
    assert len(list(like.sentences(model, None, 2, ()))) == 3
