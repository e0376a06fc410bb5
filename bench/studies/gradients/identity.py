"""Does the cell pass a gradient multiplied by f and by nothing else? By autograd through another implementation of the cell."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bench.harness.case import Case
from bench.studies.gradients import setup
from bench.studies.gradients.cells import LSTMPath
from impls import Params


def errors(path: LSTMPath, case: Case, times: tuple[int, ...]) -> np.ndarray:
    """[S, len(times)]: the largest of |∂c_t/∂c_{t−1} − diag f_t| with h_{t−1} held, and of |f_t − the path's own forget gate|.

    The derivative is autograd's through `torch.nn.LSTMCell` with the seed's weights, every unit with every other; f_t is
    σ(W_f x_t + U_f h_{t−1} + b_f) from the same weights. The path takes part in neither, so that a wrong gate in it is found.
    """
    each = setup.weights(case.spec, str(case.factor("init")), int(case.factor("seeds")))
    found = []
    for seed, params in enumerate(each):
        own = {t: path.forget(t)[seed].cpu() for t in times}
        found.append([_error(*at, params, own[t]) for t, at in _states(params, case, seed, times).items()])
    return np.array(found)


def _states(
    params: Params, case: Case, seed: int, times: tuple[int, ...]
) -> dict[int, tuple[torch.nn.LSTMCell, Tensor, Tensor, Tensor]]:
    """t → the cell, x_t [B, I], and h and c before the step [B, H], walked by `torch.nn.LSTMCell` itself."""
    cell = torch.nn.LSTMCell(case.spec.input_size, case.spec.hidden_size, dtype=torch.float64)
    cell.load_state_dict({name.removesuffix("_l0"): torch.from_numpy(value) for name, value in params.items()})
    x = torch.from_numpy(setup.inputs(case, seed))
    h = c = torch.zeros(case.batch, case.spec.hidden_size, dtype=torch.float64)
    kept = {}
    with torch.no_grad():
        for t in range(max(times) + 1):
            if t in times:
                kept[t] = (cell, x[t], h, c)
            h, c = cell(x[t], (h, c))
    return kept


def _error(cell: torch.nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor, params: Params, own: Tensor) -> float:
    """own: the path's forget gate [B, H]."""
    before = c.clone().requires_grad_()
    after = cell(x, (h, before))[1]
    rows = [torch.autograd.grad(after[:, unit].sum(), before, retain_graph=True)[0] for unit in range(after.shape[1])]
    jacobian = torch.stack(rows, 1)  # [B, of unit, by unit]
    weight, recurrent, b_x, b_h = (
        torch.from_numpy(np.split(params[f"{name}_l0"], 4)[1]) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )  # gates i, f, g, o
    f = torch.sigmoid(x @ weight.T + h @ recurrent.T + b_x + b_h)
    return max(float((jacobian - torch.diag_embed(f)).abs().max()), float((own - f).abs().max()))
