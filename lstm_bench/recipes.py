"""Lines of code that run an LSTM in a way that was measured, each a whole program from a `torch.nn.LSTM` to its outputs `y`.

`tests/lstm_bench/test_recipes.py` runs those for a CPU and compares `y` with that of the module; of those for a GPU it checks
the types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.studies.workloads.advice import Way

TORCH_DTYPES = {"tensorfloat32": "float32"}  # how PyTorch stores it, where its name is another
IMPORTS = ("import ", "from ")
Call = Mapping[str, Any]


def code(way: Way, call: Call, threads: int) -> str:
    """The program.

    Args:
        way: backend, data type and launch mode.
        call: parameters of the case in the model's own data type, as records have them.
        threads: of the processors that it was measured with.
    """
    if way.backend == "onnxruntime":
        body = _onnxruntime(call, threads)
    elif way.backend in ("torch", "cudnn", "cuda"):
        body = _module(way, call)
    else:
        body = _interface(way, call)
    imports = sorted(
        {"import torch", *(line for line in body if line.startswith(IMPORTS))},
        key=lambda line: (line.startswith("from "), line),
    )
    rest = [line for line in body if line and not line.startswith(IMPORTS)]
    return "\n".join([*imports, "", *_given(call, threads), *rest]) + "\n"


def _sizes(call: Call) -> str:
    parts = [f"{call['input_size']:.0f}", f"{call['hidden_size']:.0f}"]
    parts += [f"num_layers={call['num_layers']:.0f}"] * (call["num_layers"] > 1) + ["bias=False"] * (not call["bias"])
    parts += ["bidirectional=True"] * bool(call["bidirectional"])
    return ", ".join([*parts, *[f"proj_size={call['proj_size']:.0f}"] * (call["proj_size"] > 0)])


def _torch_dtype(dtype: str) -> str:
    return f"torch.{TORCH_DTYPES.get(dtype, dtype)}"


def _given(call: Call, threads: int) -> list[str]:
    dtype = "" if call["dtype"] == "float32" else f", dtype={_torch_dtype(call['dtype'])}"
    return [
        *[f"torch.set_num_threads({threads})"] * (call["device"] == "cpu"),
        f"layer = torch.nn.LSTM({_sizes(call)}{dtype})  # yours, with its weights",
        f"x = torch.randn({call['steps']:.0f}, {call['batch']:.0f}, {call['input_size']:.0f}{dtype})  # [step, batch, feature]",
    ]


def _onnxruntime(call: Call, threads: int) -> list[str]:
    """Inputs and outputs are bound, as measured; of a stream the state is written where the next step reads it."""
    directions = 1 + bool(call["bidirectional"])
    state = f"({call['num_layers'] * directions:.0f}, {call['batch']:.0f}, {call['hidden_size']:.0f})"
    head = [
        "import numpy as np",
        "import onnxruntime",
        "from impls import LSTMSpec",
        "from impls.frameworks.onnx import onnx_model",
        "weights = {name: value.detach().numpy() for name, value in layer.state_dict().items()}",
        f"model = onnx_model(LSTMSpec({_sizes(call)}), weights, ragged=False)",
        "options = onnxruntime.SessionOptions()",
        f"options.intra_op_num_threads = {threads}",
        'session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])',
    ]
    if call["phase"] != "step":
        return [
            *head,
            "binding = session.io_binding()",
            'binding.bind_cpu_input("x", x.numpy())',
            'for name in ("h0", "c0"):',
            f"    binding.bind_cpu_input(name, np.zeros({state}, np.float32))",
            'for name in ("y", "h_n", "c_n"):',
            "    binding.bind_output(name)",
            "session.run_with_iobinding(binding)",
            "y, h, c = (value.numpy() for value in binding.get_outputs())",
        ]
    return [
        *head,
        f'shapes = {{"y": (1, {call["batch"]:.0f}, {call["hidden_size"]:.0f}), "h_n": {state}, "c_n": {state}}}',
        "tensor = onnxruntime.OrtValue.ortvalue_from_numpy",
        "def zeros():",
        "    return {name: tensor(np.zeros(shape, np.float32)) for name, shape in shapes.items()}",
        "ping, pong, turns = zeros(), zeros(), []  # a step reads the state from one and writes it to the other",
        "for before, after in ((pong, ping), (ping, pong)):",
        "    binding = session.io_binding()",
        '    binding.bind_ortvalue_input("h0", before["h_n"])',
        '    binding.bind_ortvalue_input("c0", before["c_n"])',
        "    for name, value in after.items():",
        "        binding.bind_ortvalue_output(name, value)",
        "    turns.append((binding, after))",
        "for number, token in enumerate(np.split(x.numpy(), len(x))):  # as they arrive",
        "    binding, after = turns[number % 2]",
        '    binding.bind_ortvalue_input("x", tensor(token))',
        "    session.run_with_iobinding(binding)",
        '    y = after["y"].numpy()',
    ]


def _module(way: Way, call: Call) -> list[str]:
    """`torch.nn.LSTM`, or the drop-in for it on this project's kernels."""
    dtype, on = _torch_dtype(way.dtype), call["device"]
    lines = ["torch.backends.cudnn.enabled = False"] * (on == "cuda" and way.backend == "torch")
    if on == "cuda" and way.dtype in ("float32", "tensorfloat32"):
        allowed = way.dtype == "tensorfloat32"
        lines += [f"torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = {allowed}"]
    if way.backend == "cuda":
        lines += [
            "import lstm_bench",
            "",
            f'fast = lstm_bench.LSTM({_sizes(call)}, device="cuda", dtype={dtype})  # takes what torch.nn.LSTM takes',
            "fast.load_state_dict(layer.state_dict())",
        ]
    else:
        lines += [f'fast = layer.to("{on}", {dtype})']
    lines += [f'x = x.to("{on}", {dtype})']
    if call["phase"] == "forward_backward":
        return lines + _launched(way, [
            "for parameter in fast.parameters():", "    parameter.grad = None", "y, state = fast(x)",
            "y.backward(torch.ones_like(y))  # the gradient of your loss",
        ])  # fmt: skip
    if call["phase"] == "forward":
        return [*lines, "with torch.inference_mode():", *(f"    {line}" for line in _launched(way, ["y, state = fast(x)"]))]
    if way.backend == "cuda":
        lines += [f"stream = fast.stream({call['batch']:.0f})", "token = x[:1].clone()"]
        body = ["y = stream.advance(token)"]
    else:
        lines += ["token, state = x[:1].clone(), None"]
        body = ["y, state = fast(token, state)"]
        if way.launch == "graph":
            lines += ["with torch.inference_mode():", "    y, state = fast(token)  # the first step makes the state"]
            body = ["y, after = fast(token, state)", "for kept, new in zip(state, after, strict=True):", "    kept.copy_(new)"]
    inside = _launched(way, body)
    if way.launch != "graph":
        inside = ["for token in x.split(1):  # as they arrive", *(f"    {line}" for line in body)]
    return [*lines, "with torch.inference_mode():", *(f"    {line}" for line in inside)]


def _launched(way: Way, body: list[str]) -> list[str]:
    """As they stand, or captured in a CUDA graph and replayed, after a few calls on another stream as PyTorch asks."""
    if way.launch != "graph":
        return body
    return [
        "side = torch.cuda.Stream()", "side.wait_stream(torch.cuda.current_stream())", "with torch.cuda.stream(side):",
        "    for _ in range(3):", *(f"        {line}" for line in body), "torch.cuda.current_stream().wait_stream(side)",
        "graph = torch.cuda.CUDAGraph()", "with torch.cuda.graph(graph):", *(f"    {line}" for line in body),
        "graph.replay()  # for each input: copy it to where the graph reads it, as by x.copy_(), then replay",
    ]  # fmt: skip


def _interface(way: Way, call: Call) -> list[str]:
    """Behind this project's interface, exactly as it was measured."""
    given = ", grad_y=np.ones_like(layer(x)[0].detach().double().numpy())" * (call["phase"] == "forward_backward")
    after = {
        "forward": ["network.forward()"],
        "forward_backward": ["network.forward_backward()"],
        "step": ["for _ in range(len(x)):", "    network.step()  # reads the next token"],
    }[call["phase"]]
    read = ["gradients = network.gradients()"] * (call["phase"] == "forward_backward")
    return [
        "import numpy as np",
        "import impls",
        "",
        f'spec = impls.LSTMSpec({_sizes(call)}, dtype="{way.dtype}", device="{call["device"]}")',
        "weights = {name: value.detach().double().numpy() for name, value in layer.state_dict().items()}",
        "from impls.batch import Batch",
        "",
        f'network = impls.get("{way.backend}").load(spec, weights, Batch(x.double().numpy(){given}))',
        *after,
        "network.wait()",
        f"y = network.outputs()  # the code of this backend: impls/backends/{way.backend}.py",
        *read,
    ]
