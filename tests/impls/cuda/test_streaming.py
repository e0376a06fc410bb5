"""`LSTM.stream`: a sequence fed piece by piece answers as `torch.nn.LSTM` does in one call."""

from __future__ import annotations

import pytest
import torch

from impls.cuda.torch.stream import Stream
from tests.impls.cuda.test_module import close, pair, states

# PyTorch says so of its own LSTM.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.mark.parametrize("options, dtype, ran", [
    ({"num_layers": 2}, torch.float32, "stream"), ({"bias": False, "batch_first": True}, torch.float32, "stream"),
    ({"num_layers": 2, "proj_size": 3}, torch.float32, "step"), ({"num_layers": 2}, torch.float64, "step"),
], ids=str)  # fmt: skip
def test_pieces_answer_as_the_whole(options, dtype, ran):
    theirs, ours = (module.to(dtype) for module in pair(**options))
    streaming, start = ours.stream(3), [state.to(dtype) for state in states(theirs, 3)]
    for to, value in zip((streaming.h, streaming.c), start, strict=True):
        to.copy_(value)
    x = torch.randn(6, 3, 4, dtype=dtype)
    y = torch.cat([streaming.advance(part) for part in x.split([1, 2, 3])])
    wanted, last = theirs(x.transpose(0, 1) if theirs.batch_first else x, tuple(start))
    close(y, wanted.transpose(0, 1) if theirs.batch_first else wanted)
    close((streaming.h, streaming.c), last)
    assert not y.requires_grad
    said = streaming.provenance()
    assert said["ran"] == ran
    assert ("layer by layer" in said["chosen_because"]) == (ran == "step")


def test_bfloat16_keeps_its_cells_in_float32():
    _, ours = pair(num_layers=2)
    streaming = ours.to(torch.bfloat16).stream(1)
    y = streaming.advance(torch.randn(2, 1, 4, dtype=torch.bfloat16))
    assert (y.dtype, streaming.h.dtype, streaming.c.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)


def test_the_reason_for_layer_by_layer_is_said():
    assert "not in torch.float64" in pair()[1].double().stream(1).provenance()["chosen_because"]
    assert "no projection" in pair(proj_size=3)[1].stream(1).provenance()["chosen_because"]


def test_strided_input_answers_the_same():
    _, ours = pair()
    x = torch.randn(2, 4, 3).transpose(1, 2)
    assert not x.is_contiguous()
    close(ours.stream(3).advance(x), ours(x)[0])


def test_weights_are_those_of_the_moment():
    _, ours = pair()
    streaming, x = ours.stream(1), torch.randn(2, 1, 4)
    expected = ours(x)[0]
    with torch.no_grad():
        ours.weight_hh_l0.zero_()
    close(streaming.advance(x), expected)


@pytest.mark.parametrize("x, complaint", [
    (torch.zeros(2, 1, 9), r"must be \[tokens, 1, 4\].*got \[2, 1, 9\]"), (torch.zeros(2, 2, 4), "must be"),
    (torch.zeros(0, 1, 4), "tokens at least 1"), (torch.zeros(1, 4), "must be"),
    (torch.zeros(2, 1, 4, dtype=torch.bfloat16), "must be torch.float32 on cpu like the weights; got torch.bfloat16"),
    (torch.zeros(2, 1, 4, device="meta"), "got torch.float32 on meta"),
])  # fmt: skip
@pytest.mark.parametrize("proj_size", [0, 3])
def test_a_wrong_piece_is_told_so(x, complaint, proj_size):
    with pytest.raises(RuntimeError, match=complaint):
        pair(proj_size=proj_size)[1].stream(1).advance(x)


def test_what_does_not_stream_is_told_so():
    with pytest.raises(RuntimeError, match="bidirectional"):
        pair(bidirectional=True)[1].stream(1)
    with pytest.raises(RuntimeError, match=r"call eval\(\) first"):
        pair(num_layers=2, dropout=0.5)[1].train().stream(1)
    with pytest.raises(ValueError, match="at least 1"):
        pair()[1].stream(0)
    with pytest.raises(AttributeError):
        pair()[1].stream(1).h = torch.zeros(1)  # filled in place, never another tensor


@pytest.mark.parametrize("position, change, complaint", [
    (2, lambda x: x.transpose(0, 1).contiguous().transpose(0, 1), "x must be contiguous"),
    (2, lambda x: x[..., :4], r"x must be \[tokens, B, 5\]"), (2, lambda x: x.bfloat16(), "x must be torch.float32"),
    (3, lambda h: h[:, :1], "h must be"), (4, lambda c: c.double(), "c must be torch.float32"),
    (3, lambda h: h.to("meta"), "on one device"), (0, lambda weights: weights.half(), "weights must be torch.float32"),
])  # fmt: skip
def test_the_launch_itself_checks_what_it_is_given(position, change, complaint):
    """Below the module, where a wrong array would be read out of bounds."""
    cut = Stream(torch.float32, 5, 8, 1, 1, 1)
    packed = cut.pack([(torch.zeros(32, 5), torch.zeros(32, 8), None)])
    given = [*packed, torch.zeros(2, 3, 5), torch.zeros(1, 3, 8), torch.zeros(1, 3, 8)]
    given[position] = change(given[position])
    with pytest.raises(RuntimeError, match=complaint):
        cut.advance(lambda launch: pytest.fail("launched"), given[:2], *given[2:])
