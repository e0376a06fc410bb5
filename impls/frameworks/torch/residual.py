"""The residual models as PyTorch backends run them, and which of PyTorch's kernels for attention and LSTM they ran."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from impls.batch import Batch
from impls.frameworks.torch import graph, models
from impls.frameworks.torch import network as torch_network
from impls.frameworks.torch.models import Cache, Transformer
from impls.params import Params
from impls.specs.recurrent import Residual
from impls.specs.residual import TransformerSpec

# Operators of aten/src/ATen/native/transformers/attention.cpp, and those of torch.nn.LSTM.
KERNELS = {
    "aten::_scaled_dot_product_flash_attention_for_cpu": "flash",
    "aten::_scaled_dot_product_flash_attention": "flash",
    "aten::_scaled_dot_product_efficient_attention": "efficient",
    "aten::_scaled_dot_product_cudnn_attention": "cudnn_attention",
    "aten::_scaled_dot_product_attention_math": "math",
    "aten::_cudnn_rnn": "cudnn",
    "aten::miopen_rnn": "miopen",
    "aten::mkldnn_rnn_layer": "onednn",
}
ATTENTION = ("flash", "efficient", "cudnn_attention", "math")
# That never write the T × T weights to memory and run 16-bit products on tensor cores; PyTorch may pick either on a GPU.
FAST_ATTENTION = ("flash", "cudnn_attention")
# aten/src/ATen/native/transformers/cuda/sdp_utils.cpp: heads up to 256, trained above 192 on some GPUs only; sm_80 and newer.
LARGEST_FLASH_HEAD, FLASH_CAPABILITY = 192, (8, 0)
SCAN = "scan"


def load(spec: Residual, params: Params, batch: Batch, set_flags: Callable[[], None] | None) -> torch_network.Network:
    torch_network.check(spec, params, batch)
    model = models.build(spec, params)
    if isinstance(model, Transformer):
        return Streaming(spec, model, batch)
    return torch_network.Network(spec, dict(model.named_parameters()), batch, model, what_ran, set_flags=set_flags)


def what_ran(network: torch_network.Network) -> dict[str, str]:
    names = set(network.names_run())
    kernels = sorted({kernel for operator, kernel in KERNELS.items() if operator in names})
    ran = "+".join(kernels) or (SCAN if network.spec.cell in ("minlstm", "ssm") else "aten")
    if isinstance(network.spec, TransformerSpec) and network.last_call != network.step:
        ran = not_flash(network.spec, len(network.inputs), ran) or ran
    return {"ran": ran}


def not_flash(spec: TransformerSpec, steps: int, ran: str) -> str | None:
    """Of attention over a whole sequence: what ran and that it is a fall-back, where a fast kernel could have; else None.

    A step of decoding may run any kernel: its single query leaves a fast one nothing to gain. So may attention in a window,
    which takes a mask that PyTorch's flash kernel knows nothing of.
    """
    masked = bool(spec.window) and spec.window < steps
    possible = spec.device == "cuda" and spec.dtype in ("float16", "bfloat16") and spec.head_size <= LARGEST_FLASH_HEAD
    too_old = torch.cuda.is_available() and torch.cuda.get_device_capability() < FLASH_CAPABILITY
    if ran in FAST_ATTENTION or masked or too_old or not possible:
        return None
    return f"{ran}, though heads of {spec.head_size} in {spec.dtype} have {' and '.join(FAST_ATTENTION)}"


class Streaming(torch_network.Network):
    """A Transformer, whose stream is a cache of keys and values for T tokens or the window, the oldest overwritten."""

    def __init__(self, spec: Residual, model: Transformer, batch: Batch) -> None:
        super().__init__(spec, dict(model.named_parameters()), batch, model, what_ran)
        self.model, self.cache = model, self._empty()

    def _empty(self) -> Cache:
        assert isinstance(self.spec, TransformerSpec)
        return Cache(self.spec, self.inputs.shape[1], len(self.inputs), self.inputs)

    def prefill(self) -> None:
        self.cache = self._empty()
        self.graphs.forget()  # of a step: it would go on writing to the old cache
        with torch.inference_mode():
            self.y = self.model.prefill(self.inputs, self.cache)
        self.position, self.last_call = len(self.tokens), self.forward

    def step(self) -> None:
        with torch.inference_mode():
            self.y = self.model.step(self.tokens[self.position % len(self.tokens)], self.cache)
        self.position += 1
        self.last_call = self.step

    def _replay_step(self) -> Callable[[], None]:
        """A step has fixed shapes once its cache is full; until then steps are launched eagerly."""
        cache, token = self.cache, self.tokens[0].clone()

        def prepare() -> None:
            token.copy_(self.tokens[self.position % len(self.tokens)])

        def body() -> Tensor:
            with torch.inference_mode():
                return self.model.step(token, cache)

        def undo() -> Callable[[], None]:
            """Leaves in the cache what was written: the next step writes there before it reads."""
            passed, back = cache.passed, graph.copier((cache.position,))

            def restore() -> None:
                back()
                cache.passed = passed

            return restore

        def show(y: Tensor) -> None:
            self.y = y
            self.position += 1
            cache.passed += 1

        replay = graph.Replay(self.device, body, show, prepare, undo, token.mul_)
        return lambda: replay() if cache.passed >= cache.capacity else self.step()

    def widen(self, streams: int, context: int) -> None:
        assert isinstance(self.spec, TransformerSpec)
        self.cache = Cache(self.spec, 1, 1, self.x)  # lets go of the old one before a wider one is made
        super().widen(streams, context)
        self.cache = Cache(self.spec, streams, context, self.inputs)
        self.cache.pass_by(context)

    def names_run(self) -> list[str]:
        """Looking takes one step more; the place it writes to is the one that the next step overwrites before it reads."""
        position, passed, y = self.cache.position.clone(), self.cache.passed, self.y
        names = super().names_run()
        self.cache.position.copy_(position)
        self.cache.passed, self.y = passed, y
        return names

    def cache_bytes(self) -> int:
        return self.cache.nbytes
