"""Encoders and decoders: LSTMs without attention and with it, and a Transformer. All are trained with the right words given."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from bench.studies.translation.tasks import END, Task
from impls import LSTMSpec, Spec, TransformerSpec, UnknownName


class LSTMTranslator(nn.Module):
    """An LSTM reads the source, another one begins in its final state and says the target (Sutskever et al. 2014, section 2).

    With attention, each state of the decoder looks back at the encoder's: Luong et al. 2015, section 3.1, global with the score
    `general`, whose result goes to the readout and not into the next step.
    """

    def __init__(self, spec: LSTMSpec, task: Task, attends: bool, backwards: bool) -> None:
        """backwards: the source is read from its end (Sutskever et al. 2014, section 3.3)."""
        super().__init__()
        width, layers = spec.hidden_size, spec.num_layers
        self.attends, self.backwards = attends, backwards
        self.of_source, self.of_target = nn.Embedding(task.source_words, width), nn.Embedding(task.target_words, width)
        self.encoder, self.decoder = nn.LSTM(width, width, layers), nn.LSTM(width, width, layers)
        if attends:
            self.score, self.combine = nn.Linear(width, width, bias=False), nn.Linear(2 * width, width, bias=False)
        self.readout = nn.Linear(width, task.target_words)
        with torch.no_grad():  # a forget bias of 1 (Jozefowicz et al. 2015), as every LSTM that is trained here
            for name, value in (*self.encoder.named_parameters(), *self.decoder.named_parameters()):
                if name.startswith("bias_ih"):
                    value[width : 2 * width] += 1.0

    def encode(self, source: Tensor) -> Any:
        """Source [T, B] to what a decoder starts from: the encoder's outputs, and its last state."""
        return self.encoder(self.of_source(source.flip(0) if self.backwards else source))

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        """Source [T, B] and the words before each of the target's [U, B] to logits [U, B, V]."""
        memory, state = self.encode(source)
        return self._read(self.decoder(self.of_target(before), state)[0], memory)

    def step(self, last: Tensor, start: Any) -> tuple[Tensor, Any]:
        """The last word [B] to logits [B, V] of the next one, and where to go on from."""
        memory, state = start
        states, state = self.decoder(self.of_target(last)[None], state)
        return self._read(states, memory)[0], (memory, state)

    def weights(self, states: Tensor, memory: Tensor) -> Tensor:
        """How much of each word of the source [T] a decoder's states [U, B, H] look at: [B, U, T], each sum 1."""
        return torch.einsum("ubh,tbh->but", states, self.score(memory)).softmax(-1)

    def _read(self, states: Tensor, memory: Tensor) -> Tensor:
        if self.attends:
            context = torch.einsum("but,tbh->ubh", self.weights(states, memory), memory)
            states = torch.tanh(self.combine(torch.cat([context, states], -1)))
        return self.readout(states)


class TransformerTranslator(nn.Module):
    """`torch.nn`'s encoder and decoder with as many layers each, normalised before each part, sinusoidal positions (Vaswani et
    al. 2017, sections 3.1 and 3.5), without dropout."""

    def __init__(self, spec: TransformerSpec, task: Task) -> None:
        super().__init__()
        width, layers = spec.hidden_size, spec.num_layers
        layer = (width, spec.num_heads, spec.inner_size, 0.0)
        self.of_source, self.of_target = nn.Embedding(task.source_words, width), nn.Embedding(task.target_words, width)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(*layer, norm_first=True), layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(*layer, norm_first=True), layers, nn.LayerNorm(width))
        self.readout = nn.Linear(width, task.target_words)

    def encode(self, source: Tensor) -> Any:
        """Source [T, B] to the encoder's outputs, and an empty target."""
        return self.encoder(self.of_source(source) + positions(source, self.readout.in_features)), source[:0]

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        """Source [T, B] and the words before each of the target's [U, B] to logits [U, B, V]."""
        return self._read(self.encode(source)[0], before)

    def step(self, last: Tensor, start: Any) -> tuple[Tensor, Any]:
        """The last word [B] to logits [B, V] of the next one, and where to go on from."""
        memory, before = start
        before = torch.cat([before, last[None]])
        return self._read(memory, before)[-1], (memory, before)

    def _read(self, memory: Tensor, before: Tensor) -> Tensor:
        x = self.of_target(before) + positions(before, self.readout.in_features)
        future = nn.Transformer.generate_square_subsequent_mask(len(before), device=before.device)
        return self.readout(self.decoder(x, memory, tgt_mask=future, tgt_is_causal=True))


def positions(words: Tensor, width: int) -> Tensor:
    """Sines and cosines of the places of words [T, B]: [T, 1, H] (Vaswani et al. 2017, section 3.5)."""
    place = torch.arange(len(words), device=words.device)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=words.device) * (-math.log(10_000.0) / width))
    return torch.stack([torch.sin(place * rate), torch.cos(place * rate)], -1).flatten(1)[:, None]


Translator = LSTMTranslator | TransformerTranslator
NETWORKS = ("lstm", "attention", "transformer")


def build(network: str, spec: Spec, task: Task, backwards: bool, seed: int) -> Translator:
    """A network of `NETWORKS` with weights from the seed. Raises `UnknownName`."""
    if network not in NETWORKS:
        raise UnknownName("network", network, NETWORKS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(spec, TransformerSpec):
            model: Translator = TransformerTranslator(spec, task)
        else:
            assert isinstance(spec, LSTMSpec)
            model = LSTMTranslator(spec, task, network == "attention", backwards)
    return model.to(spec.device)


def parameter_count(model: Translator) -> int:
    """Of encoder, decoder and attention: embeddings and readout are the task's."""
    own = (model.of_source, model.of_target, model.readout)
    return sum(value.numel() for value in model.parameters()) - sum(
        value.numel() for part in own for value in part.parameters()
    )


@torch.no_grad()
def greedy(model: Translator, source: Tensor, steps: int) -> Tensor:
    """The most likely word at each of so many steps [steps, B], each read before the next is said."""
    start, said = model.encode(source), [torch.full_like(source[0], END)]
    for _ in range(steps):
        logits, start = model.step(said[-1], start)
        said.append(logits.argmax(-1))
    return torch.stack(said[1:])
