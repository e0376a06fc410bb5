"""The streaming kernel under the emulation: one launch for all layers and tokens, with every awkward size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.worker import agreement
from impls.cuda.emulator import Emulation, RuleBroken
from impls.cuda.runtime import FOLDER, Launcher, Refused
from impls.cuda.torch.stream import Stream, choose_stream
from tests.impls.cuda.emulated import Rewritten, case
from tests.impls.cuda.test_mutations import ORDERING

SIZES = [  # hidden, layers, batch, tokens, blocks, columns
    (5, 1, 1, 1, 1, 1), (7, 2, 3, 2, 1, 2), (20, 3, 2, 33, 2, 1), (33, 2, 3, 2, 4, 4), (70, 1, 8, 2, 16, 4),
    (70, 2, 1, 2, 8, 1),
]  # fmt: skip


def run(of, cut: Stream, launcher: Launcher, tokens_a_launch: int) -> dict[str, np.ndarray]:
    """The whole case streamed, so many tokens a launch."""
    params, batch = of.data()
    put = lambda value: torch.tensor(value, dtype=cut.dtype)  # noqa: E731
    layers = [
        (put(params[f"weight_ih_l{depth}"]), put(params[f"weight_hh_l{depth}"]),
         put(params[f"bias_ih_l{depth}"] + params[f"bias_hh_l{depth}"]))
        for depth in range(cut.layers)
    ]  # fmt: skip
    h, c = put(batch.h0), put(batch.c0).float()
    weights = cut.pack(layers)
    y = [cut.advance(launcher, weights, part, h, c) for part in put(batch.x).split(tokens_a_launch)]
    return {"outputs": torch.cat(y).float().numpy(), "h_n": h.float().numpy(), "c_n": c.numpy()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("hidden, layers, batch, tokens, cluster, columns", SIZES, ids=str)
def test_any_size_answers_as_the_oracle(hidden, layers, batch, tokens, cluster, columns, dtype):
    whole = case(hidden, tokens, batch, dtype, phase="step", num_layers=layers)
    cut = Stream(getattr(torch, dtype), 5, hidden, layers, cluster, columns)
    found = run(whole, cut, Emulation(tokens), tokens_a_launch=tokens)
    agreement.check_against(found, whole)


def test_tokens_one_by_one_and_together_are_the_same():
    whole = case(20, 5, 3, "bfloat16", phase="step", num_layers=2)
    cut = Stream(torch.bfloat16, 5, 20, 2, 2, 2)
    together, apart = (run(whole, cut, Emulation(), count) for count in (3, 1))
    for name in together:
        np.testing.assert_array_equal(together[name], apart[name])


ORDERINGS = list(enumerate(ORDERING.finditer((FOLDER / "stream.cu").read_text())))


@pytest.mark.parametrize("number, place", ORDERINGS, ids=[f"{number}" for number, _ in ORDERINGS])
def test_without_any_one_wait_or_barrier_a_rule_is_broken(number, place):
    cuts = [Stream(torch.bfloat16, 5, 20, 2, cluster, 1) for cluster in (1, 2)]
    changed = Rewritten("stream.cu", lambda text: text[: place.start()] + ";" + text[place.end() :], seed=number)
    with pytest.raises(RuleBroken):
        for cut in cuts:
            run(case(20, 6, 1, "bfloat16", phase="step", num_layers=2), cut, changed, 6)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("(stage >> 1) & 1", "((stage >> 1) + 1) & 1"),
        ("layer * 2 + (token & 1)", "layer * 2"),  # one copy for two
    ],
)
def test_a_wrong_phase_or_copy_breaks_a_rule(right, wrong):
    whole, cut = case(20, 6, 1, "bfloat16", phase="step", num_layers=1), Stream(torch.bfloat16, 5, 20, 1, 2, 1)

    def rewrite(text):
        assert right in text
        return text.replace(right, wrong)

    with pytest.raises((RuleBroken, agreement.Disagreement)):
        agreement.check_against(run(whole, cut, Rewritten("stream.cu", rewrite), 6), whole)


def test_the_cut_follows_the_sizes_and_refuses_what_it_cannot():
    chosen = [
        choose_stream(torch.bfloat16, 64, *size, batch, (9, 0), design="cluster")
        for *size, batch in ((8, 2, 1), (32, 2, 4), (512, 2, 8))
    ]
    assert [(cut.cluster, cut.columns) for cut in chosen] == [(1, 1), (8, 1), (16, 4)]
    assert choose_stream(torch.float32, 64, 64, 1, 1, (8, 0)).cluster == 1
    tight = choose_stream(torch.float32, 64, 64, 1, 1, (9, 0), resident=lambda kernel: int(kernel.cluster < 16))
    assert tight.cluster == 8
    with pytest.raises(Refused, match=r"compute capability 9\.0"):
        choose_stream(torch.float32, 64, 65, 1, 1, (8, 0))
    with pytest.raises(Refused, match=r"not in torch\.float64"):
        choose_stream(torch.float64, 64, 64, 1, 1, (9, 0))
    with pytest.raises(Refused, match="shared memory"):
        choose_stream(torch.float32, 64, 2048, 8, 5, (9, 0))
