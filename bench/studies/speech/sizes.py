"""The networks of study `speech` and their sizes: specs, and parameters of each."""

from __future__ import annotations

from impls import LSTMSpec, LSTMStackSpec, Spec, TransformerSpec

NAMES = {
    "streaming": "LSTM, one direction", "bidirectional": "LSTM, both directions", "convolution": "convolution",
    "transformer": "Transformer",
}  # fmt: skip
STAND_INS = ("convolution",)  # no cell of `impls`: its case has the spec of an LSTM stack of its width and depth
CLASSES = 24  # 23 phones and CTC's blank
STACKED = 3  # frames of 10 ms that a step reads (Sak et al. 2015)
KERNEL = 5  # steps that a convolution sees
TESTED = 500  # utterances, at most as many as are trained on
MISMATCH = 0.03  # that parameters may differ by: widths, on a GPU in multiples of 8 or 64, leave no less


def parameters(network: str, spec: Spec) -> int:
    """Of a whole network, with its readout."""
    width = spec.hidden_size
    readout = (spec.output_size + 1) * CLASSES
    if network != "convolution":
        return spec.parameter_count() + readout
    return (spec.input_size + 1) * width + spec.num_layers * (KERNEL * width + 2) * width + width + readout


def spec_of(network: str, like: LSTMSpec, layers: int) -> Spec:
    """A network whose width is to be matched.

    Args:
        network: a name of `NAMES`.
        like: the LSTM in one direction that it is matched to: its inputs and its device.
        layers: how many the network has.
    """
    inputs, device = like.input_size, like.device
    if network == "transformer":
        heads = 2 if device == "cpu" else 1
        return TransformerSpec(inputs, 64, layers, num_heads=heads, bidirectional=True, device=device)
    if network == "convolution":
        return LSTMStackSpec(inputs, 64, layers, device=device)
    return LSTMSpec(inputs, 64, layers, bidirectional=network == "bidirectional", device=device)
