"""What the study `scaling` is judged by: each claim, the rule put down before there were numbers, and its source."""

from __future__ import annotations

from results.claims import Claim, Test

NEWTON_INITS = ("pytorch", "forget:1", "forget:3", "forget:5", "chrono:784")


def _of(sweep: str, phase: str, *cells: str) -> str:
    chosen = f"study=scaling,sweep={sweep},phase={phase}"
    return ",".join([chosen, *(f"cell={cell}" for cell in cells)])


SCANS = tuple(
    (f"{name} training", _of("tokens", "forward_backward", cell)) for name, cell in (("minLSTM", "minlstm"), ("SSM", "ssm"))
)
SIZES = tuple(
    (name, f"study=scaling,sweep=sizes,cell={cell}")
    for name, cell in (("LSTM", "lstm_stack"), ("Transformer", "transformer"), ("minLSTM", "minlstm"), ("SSM", "ssm"))
)
TRAINING, PREFILL, DECODE = ("training", "forward_backward"), ("prefill", "forward"), ("decode", "step")
CLAIMS = (
    Claim(
        "e-linear",
        "The time to train an LSTM on one sequence grows linearly with its length: the exponent is 1, within a tenth.",
        (Test("length_exponent", low=0.9, high=1.1, effect=1.0, spread=0.077, basis="published"),),
        (("LSTM, one sequence", "study=scaling,phase=forward_backward,batch=1,cell=lstm_stack"),),
        "O(n) sequential operations",
        "Vaswani et al. 2017, table 1",
        "atlas",
    ),
    Claim(
        "e-quadratic",
        "More than half of the time to train a Transformer on one sequence, at the longest, grows with its length squared.",
        (Test("quadratic_share", low=0.5, high=1.0, effect=0.69, spread=0.08, basis="an earlier run"),),
        (("Transformer, one sequence", "study=scaling,phase=forward_backward,batch=1,cell=transformer"),),
        "O(n² d) operations",
        "Vaswani et al. 2017, table 1",
        "growth",
    ),
    Claim(
        "e-sequential",
        "An LSTM is sequential: at the same tokens a call, the longest sequences leave it less than half its FLOP/s.",
        (Test("rate_kept", low=0.0, high=0.5, effect=0.516, spread=0.157, basis="an earlier run"),),
        tuple((f"LSTM {name}", _of("tokens", phase, "lstm_stack")) for name, phase in (TRAINING, PREFILL)),
        "O(n) sequential operations",
        "Vaswani et al. 2017, table 1",
        "utilisation",
    ),
    Claim(
        "e-parallel",
        "A Transformer is parallel over positions: the longest sequences leave it 0.8 of its FLOP/s at as many tokens a call.",
        (Test("rate_kept", low=0.8, effect=1.0, spread=0.071, basis="published"),),
        tuple((f"Transformer {name}", _of("tokens", phase, "transformer")) for name, phase in (TRAINING, PREFILL)),
        "O(1) sequential operations",
        "Vaswani et al. 2017, table 1",
        "utilisation",
    ),
    Claim(
        "e-scan",
        "A recurrence without recurrent weights is parallel too, by a scan: the longest sequences leave it 0.8 of its FLOP/s.",
        (Test("rate_kept", low=0.8, effect=1.28, spread=0.51, basis="an earlier run"),),
        SCANS,
        "O(log n) rounds",
        "Blelloch 1990; Feng et al. 2024",
        "utilisation",
    ),
    *(
        Claim(
            f"e-crossover-{name}",
            f"From a length near where attention costs as much as the rest ({rule}), an LSTM of as many parameters takes less "
            f"time in {name}.",
            (Test(f"crossover_over_{quantity}", low=0.5, high=2.0),),
            ((f"LSTM and Transformer, {name}", _of("tokens", phase)),),
            rule,
            "Kaplan et al. 2020, section 2.1",
            "atlas",
        )
        for (name, phase), rule, quantity in (
            (TRAINING, "T = 12 d", "12d"), (PREFILL, "T = 12 d", "12d"), (DECODE, "T = 6 d", "6d"),
        )
    ),
    Claim(
        "e-operations",
        "In operations an LSTM and a Transformer of as many parameters do not cross: its token takes fewer from the shortest "
        "sequences on.",
        (Test("crossover_flops", low=0.0, high=64.0, effect=64.0, spread=0),),
        tuple((f"LSTM and Transformer, {name}", _of("tokens", phase)) for name, phase in (TRAINING, PREFILL, DECODE)),
        "2 N, and 2 N + 2·L·T·d",
        "Kaplan et al. 2020, table 1",
        "atlas",
    ),
    *(
        Claim(
            f"e-attention-{multiple}d",
            f"Attention takes as many operations as the rest of a Transformer near T = {multiple} d, within a factor of 1.5, "
            f"in {words}.",
            (Test(f"attention_over_{multiple}d", low=1 / 1.5, high=1.5, effect=1.3, spread=0),),
            tuple((f"Transformer, {name}", _of("tokens", phase, "transformer")) for name, phase in settings),
            f"T = {multiple} d, for a feed-forward of 4 d",
            "Kaplan et al. 2020, table 1",
            "atlas",
        )
        for multiple, words, settings in (
            (12, "causal training and prefill", (TRAINING, PREFILL)), (6, "decode", (DECODE,)),
        )
    ),
    Claim(
        "e-cache-weights",
        "A Transformer's keys and values take as many bytes as its weights near T = 6 d/B, within a factor of 1.5.",
        (Test("cache_over_6d", low=1 / 1.5, high=1.5, effect=1.3, spread=0),),
        (("Transformer, decode", _of("tokens", "step", "transformer")),),
        "12·L·d² weights, 2·L·d values a token and stream",
        "Shazeer 2019, section 2.4",
        "streams",
    ),
    Claim(
        "e-cache-state",
        "A Transformer's keys and values take more bytes than an LSTM's state from the second token on.",
        (Test("cache_passes_state", low=1.0, high=2.0, effect=1.3333333333333333, spread=0),),
        (("LSTM and Transformer, decode", _of("tokens", "step")),),
        "√1.5 = 1.2 tokens, for 8 H² = 12 d² parameters",
        "Shazeer 2019, section 2.4",
        "streams",
    ),
    Claim(
        "e-width",
        "The time to train grows no faster with the width than the operations do, by its square at most.",
        (Test("width_exponent", high=2.0, effect=0.967, spread=0.069, basis="an earlier run"),),
        SIZES,
        "2",
        "Kaplan et al. 2020, table 1",
        "growth",
    ),
    Claim(
        "e-depth",
        "The time to train grows in proportion to depth: the exponent is 1, within a tenth.",
        (Test("depth_exponent", low=0.9, high=1.1, effect=1.0, spread=0.05, basis="published"),),
        SIZES,
        "1",
        "Kaplan et al. 2020, table 1",
        "growth",
    ),
    Claim(
        "e-batch",
        "Stepping leaves room that a larger batch fills: the time to train an LSTM grows with less than the 0.75th power of it "
        "(16 times the sequences, less than 8 times the time).",
        (Test("batch_exponent", high=0.75, effect=0.593, spread=0.038, basis="an earlier run"),),
        SIZES[:1],
        "O(n) sequential operations, whatever the batch",
        "Vaswani et al. 2017, table 1",
        "growth",
    ),
    Claim(
        "e-memory",
        "Training an LSTM takes less memory than a Transformer of as many parameters, from the shortest sequences on.",
        (Test("crossover_memory", low=0.0, high=64.0, effect=64.0, spread=0),),
        (("LSTM and Transformer, training", _of("memory", "forward_backward")),),
        figure="atlas",
    ),
    Claim(
        "e-energy",
        "Training an LSTM takes less energy than a Transformer of as many parameters from some length on, of at most 32 768.",
        (Test("crossover_energy", low=0.0, high=32_768.0),),
        (("LSTM and Transformer, training", _of("memory", "forward_backward")),),
        figure="atlas",
    ),
    Claim(
        "e-newton",
        "All steps of an LSTM can be evaluated at once: Newton's method needs at most ten rounds of a parallel scan.",
        (Test("newton_rounds", low=0.0, high=10.0, effect=4, spread=0.5, basis="an earlier run"),),
        tuple((f"init {init}", f"study=scaling,sweep=newton,init={init}") for init in NEWTON_INITS),
        "few rounds where λ₁ < 0, many at 0",
        "Gonzalez et al. 2025",
        "newton",
    ),
    Claim(
        "e-newton-exponent",
        "The nearer the largest Lyapunov exponent is to zero, the more rounds Newton's method needs: over initialisations they "
        "rank alike, with a correlation above zero.",
        (Test("newton_rank_correlation", low=0.0, high=1.0, effect=0.205, spread=0.706, basis="an earlier run"),),
        (("initialisations", "study=scaling,sweep=newton"),),
        "few rounds where λ₁ < 0, many at 0",
        "Gonzalez et al. 2025",
        "newton",
    ),
)  # fmt: skip
