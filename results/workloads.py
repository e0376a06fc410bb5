"""Systems in use that have an LSTM inside: its shapes, where they are written down, and what speed was published.

The study `workloads` measures them; the report puts the published speed beside ours. Every shape was read in the named source
at the named commit (2026-11-26) unless `note` says what was assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["forward", "forward_backward", "step"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How the system calls its LSTM.

    Attributes:
        steps, batch, phase, dtype, device: of the call; a step is one token of a stream.
        amount: of the system's unit that one call processes.
        initial_state: whether states are handed in.
        scaled: whether it is smaller than the system's own, which would take minutes on a CPU.
    """

    steps: int
    batch: int
    phase: Phase
    dtype: str
    device: Device
    amount: float
    initial_state: bool = False
    scaled: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """A speed that others published. Of a whole model it is an upper bound of the LSTM's time.

    Attributes:
        text: as it was published, with its place.
        seconds: of one call of the shape with this batch and phase; None where it is of another kind.
        device: on which it was measured.
        batch, phase: of the call.
        whole_model: whether more than the LSTM was timed.
    """

    text: str
    seconds: float | None = None
    device: str = ""
    batch: int = 0
    phase: Phase = "forward"
    whole_model: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """LSTM layers of one size, with the calls that are measured of them. label tells several parts of a system apart."""

    sizes: tuple[int, int, int]  # input, hidden, layers
    shapes: tuple[Shape, ...]
    label: str = ""
    proj_size: int = 0
    bidirectional: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """A model or an application.

    Attributes:
        name: of the workload, as records have it; title and domain for a reader.
        source: repository, commit and place.
        unit: what the users of such a system count, of which a shape has an `amount`.
        budget: seconds that a streaming call may take, and why; None where there is no such limit.
        note: what stands for something that an LSTM case cannot express, and what was assumed.
    """

    name: str
    title: str
    domain: str
    source: str
    unit: str
    parts: tuple[Part, ...]
    published: tuple[Published, ...] = ()
    budget: tuple[float, str] | None = None
    note: str = ""

    @property
    def url(self) -> str:
        """Of the repository at the commit that was read."""
        repository, _, commit = self.source.split(" ")[0].partition("@")
        return f"https://github.com/{repository}/tree/{commit}"


def _gpu(steps: int, batch: int, phase: Phase, dtype: str, amount: float, initial_state: bool = False) -> Shape:
    return Shape(steps, batch, phase, dtype, "cuda", amount, initial_state)


def _cpu(steps: int, batch: int, phase: Phase, amount: float, *, initial_state: bool = False, scaled: bool = False) -> Shape:
    return Shape(steps, batch, phase, "float32", "cpu", amount, initial_state, scaled)


ALTERNATING = "directions alternate from layer to layer; a unidirectional stack costs the same, the flips are left out"
CHUNK, STRIDE = 10_000, 6  # samples of a basecaller's chunk, and those that become one step


def _basecaller(name: str, model: str, hidden: int, place: str, batches: tuple[int, ...], *, scaled: Shape,
                published: tuple[Published, ...]) -> System:  # fmt: skip
    steps = CHUNK // STRIDE
    shapes = (*(_gpu(steps, batch, "forward", "float16", batch * CHUNK) for batch in batches), scaled)
    return System(
        name, f"Nanopore basecaller, {model}", "genomics", place, "samples", (Part((hidden, hidden, 5), shapes),), published,
        note=f"{ALTERNATING}; the published times are of the whole model, in int8 where the batch is large",
    )  # fmt: skip


def _h100(batch: int, milliseconds: float) -> Published:
    text = f"{milliseconds * batch:.3g} ms for {batch} chunks on an H100 NVL (dorado, {milliseconds:g} ms a chunk)"
    return Published(text, milliseconds * batch / 1e3, "H100 NVL", batch)


_DORADO = "nanoporetech/dorado@ba44a01 config.toml of the model:53-103; times: NVIDIA_H100_NVL_cuda12.cpp:17-30"

SYSTEMS: tuple[System, ...] = (
    _basecaller("basecall-fast", "Dorado fast", 96, _DORADO, (512,), scaled=_cpu(400, 8, "forward", 8 * 2400, scaled=True),
                published=(_h100(512, 0.01158),)),
    _basecaller("basecall-hac", "Dorado hac v4.3", 384, _DORADO, (64, 512), scaled=_cpu(100, 1, "forward", 600, scaled=True),
                published=(_h100(64, 0.8137), _h100(512, 0.1093))),
    _basecaller("basecall-sup", "Dorado sup v4.3", 1024, _DORADO, (64,), scaled=_cpu(24, 1, "forward", 144, scaled=True),
                published=(_h100(64, 2.131),)),
    System(
        "basecall-train", "Training a basecaller, Bonito hac", "genomics",
        "nanoporetech/bonito@1eb0c1c cli/train.py:121",
        "samples", (Part((384, 384, 5), (
            _gpu(1666, 64, "forward_backward", "float16", 64 * CHUNK), _cpu(32, 1, "forward_backward", 192, scaled=True))),),
        note=f"{ALTERNATING}; the training chunk is taken to be as long as that of inference",
    ),
    System(
        "vad", "Voice activity detector, Silero VAD", "speech", "snakers4/silero-vad@806dcba tinygrad_model.py:24",
        "s of audio", (Part((128, 128, 1), (_cpu(1, 1, "step", 0.032),)),),
        (Published("less than 1 ms a chunk of 32 ms on one CPU thread (README.md:103)", 1e-3, "one CPU thread", 1, "step"),),
        (0.032, "a chunk of 512 samples at 16 kHz"),
    ),
    System(
        "asr-stream", "Streaming speech recogniser, DeepSpeech 0.9", "speech",
        "mozilla/DeepSpeech@6913ae8 flags.py:25,105,140", "s of audio",
        (Part((2048, 2048, 1), (_cpu(16, 1, "forward", 0.32, initial_state=True),)),),
        budget=(0.32, "16 steps of 20 ms in one call"),
    ),
    System(
        "asr-lstmp", "Streaming encoder with projection, icefall lstm_transducer", "speech",
        "k2-fsa/icefall@36e0420 lstm_transducer_stateless2/train.py:104-120", "s of audio",
        (Part((512, 1024, 12), (
            _gpu(375, 32, "forward_backward", "float16", 32 * 15.0), _cpu(1, 1, "step", 0.04)), proj_size=512),),
        budget=(0.04, "a step of 40 ms, after subsampling by 4"), note="that subsampling is by 4 was recalled, not read",
    ),
    System(
        "transducer-predictor", "Predictor of a transducer, NeMo Parakeet", "speech",
        "NVIDIA/NeMo@8cfedd7 modules/rnnt.py:845-862", "tokens",
        (Part((640, 640, 2), (
            _gpu(1, 32, "step", "bfloat16", 32), _gpu(80, 32, "forward_backward", "bfloat16", 80 * 32),
            _cpu(1, 32, "step", 32))),),
        (Published("RTFx above 1500 for Parakeet-tdt_ctc-1.1b (CHANGELOG.md:1970)"),),
        note="80 tokens a sentence were assumed for training",
    ),
    System(
        "rnnt-encoder", "Encoder of MLPerf's RNN-T", "speech",
        "mlcommons/training@aa344c7 baseline_v3-1023sp.yaml:63-77",
        "s of audio", (
            Part((240, 1024, 2), (_gpu(557, 128, "forward_backward", "float16", 128 * 16.7),
                                  _cpu(20, 1, "forward_backward", 0.6, scaled=True)), "before stacking"),
            Part((2048, 1024, 3), (_gpu(278, 128, "forward_backward", "float16", 128 * 16.7),
                                   _cpu(8, 1, "forward_backward", 0.48, scaled=True)), "after stacking"),
        ),
    ),
    System(
        "diarize", "Speaker segmentation, pyannote", "speech",
        "pyannote/pyannote-audio@b749285 PyanNet.py:65-98", "s of audio",
        (Part((60, 128, 2), (_gpu(589, 32, "forward", "float32", 320.0), _cpu(589, 1, "forward", 10.0)), bidirectional=True),),
        (Published("31 s an hour of audio for the whole pipeline on an H100 (README.md:107)"),),
    ),
    System(
        "denoise", "Noise suppression, DTLN", "speech", "breizhn/DTLN@1de1f15 DTLN_model.py:139-145", "s of audio",
        (Part((257, 128, 2), (_cpu(1, 1, "step", 0.008),)),),
        (Published("0.36 ms a block of 8 ms for two such stages on an i5-6600K (README.md:104)", 0.36e-3, "i5-6600K", 1,
                   "step"),),
        (0.008, "a block of 128 samples at 16 kHz"),
    ),
    System(
        "speaker-train", "Training a speaker encoder, GE2E", "speech",
        "CorentinJ/Real-Time-Voice-Cloning@865eba8 encoder/params_model.py", "utterances",
        (Part((40, 256, 3), (_gpu(160, 640, "forward_backward", "float32", 640),
                             _cpu(160, 4, "forward_backward", 4, scaled=True))),),
    ),
    System(
        "tts-decoder", "Decoder of a speech synthesiser, Tacotron 2", "speech",
        "NVIDIA/tacotron2@185cd24 model.py:169-233", "s of audio",
        (Part((768, 1024, 1), (_cpu(1, 1, "step", 1 / 81),), "attention cell"),
         Part((1536, 1024, 1), (_gpu(1, 64, "step", "float16", 64 / 81), _cpu(1, 1, "step", 1 / 81)), "decoder cell")),
        budget=(1 / 81, "81 mel frames a second of speech"),
    ),
    System(
        "tts-kokoro", "Speech synthesiser, Kokoro-82M", "speech", "hexgrad/kokoro@dfb907a kokoro/modules.py:48-142", "phonemes",
        (Part((640, 256, 1), (_cpu(510, 1, "forward", 510),), bidirectional=True),),
        note="hidden size and style size were seen in a copy of its configuration",
    ),
    System(
        "music-separation", "Music source separation, Open-Unmix", "audio",
        "sigsep/open-unmix-pytorch@fb672c9 openunmix/model.py:57-69", "s of audio",
        (Part((512, 256, 3), (_gpu(259, 16, "forward_backward", "float32", 96.0),
                              _cpu(259, 1, "forward", 6.0)), bidirectional=True),),
    ),
    System(
        "codec", "Neural audio codec, EnCodec", "audio", "facebookresearch/encodec@0e2d0ae modules/seanet.py:91-133",
        "s of audio", (Part((512, 512, 2), (_gpu(75, 64, "forward_backward", "float32", 64.0), _cpu(1, 1, "step", 1 / 75))),),
        budget=(1 / 75, "75 frames a second"),
    ),
    System(
        "guitar-amp", "Guitar amplifier model, NAM LSTM standard", "audio",
        "sdatkinson/neural-amp-modeler@e296039 nam/train/core.py:602-625", "s of audio",
        (Part((1, 24, 1), (_cpu(1, 1, "step", 1 / 48000), _gpu(8192, 16, "forward_backward", "float32", 16 * 8192 / 48000))),),
        budget=(1 / 48000, "a sample at 48 kHz"),
    ),
    System(
        "ocr-doctr", "Text recognition, docTR crnn_vgg16_bn", "vision",
        "mindee/doctr@8a88fea recognition/crnn/pytorch.py:114-137", "crops",
        (Part((512, 128, 2), (_cpu(32, 128, "forward", 128), _gpu(32, 128, "forward", "float32", 128)), bidirectional=True),),
        (Published("0.6 s a batch of 64, whole model (using_models.rst:150)"),),
    ),
    System(
        "ocr-easyocr", "Text recognition, EasyOCR generation 2", "vision",
        "JaidedAI/EasyOCR@c4f3cd7 model/modules.py:82-98", "lines",
        (Part((256, 256, 1), (_cpu(149, 1, "forward", 1),), bidirectional=True),),
        note="one of two such layers; the linear layer between them is left out",
    ),
    System(
        "translate", "Translation, GNMT in PyTorch", "language",
        "NVIDIA/DeepLearningExamples@729963d GNMT/README.md:89-116", "tokens",
        (Part((1024, 1024, 4), (_gpu(50, 128, "forward_backward", "float16", 50 * 128),
                                _cpu(8, 4, "forward_backward", 32, scaled=True))),),
        (Published("140 909 tokens/s in training on an A100 with mixed precision, encoder and decoder (README.md:1147)",
                   50 * 128 / 140_909, "A100", 128, "forward_backward"),),
        note="encoder and decoder have four layers each; the wider input of the decoder's upper layers is left out",
    ),
    System(
        "language-awd", "Language model, AWD-LSTM on WikiText-2", "language", "salesforce/awd-lstm-lm@1d466ec main.py:18-33",
        "tokens", (Part((400, 1150, 3), (_gpu(70, 80, "forward_backward", "float32", 70 * 80),
                                         _cpu(10, 4, "forward_backward", 40, scaled=True))),),
        (Published("180 s an epoch of WikiText-2 at batch 20 on a Quadro GP100 (README.md:123)"),),
        note="the third layer has 400 units in the model, and 1150 here",
    ),
    System(
        "language-elmo", "Bidirectional language model, ELMo", "language", "allenai/bilm-tf@7cffee2 bin/train_elmo.py:15-53",
        "tokens", (Part((512, 4096, 2), (_gpu(20, 128, "forward_backward", "float32", 20 * 128),
                                         _cpu(20, 1, "forward", 20, scaled=True)), proj_size=512),),
        note="one of two directions, which are stacks of their own",
    ),
    System(
        "language-char", "Character language model, Flair", "language",
        "flairNLP/flair@d4ea377 language_model.py:23", "characters",
        (Part((100, 2048, 1), (_gpu(250, 100, "forward_backward", "float32", 250 * 100),
                               _cpu(32, 1, "forward", 32, scaled=True))),),
    ),
    System(
        "keyboard", "Next-word prediction on phones, federated", "language", "google-research/federated@a5af8c4",
        "tokens", (Part((96, 670, 1), (_cpu(20, 16, "forward_backward", 20 * 16),)),),
        note="20 tokens a sentence were assumed",
    ),
    System(
        "forecast-tft", "Forecasting, Temporal Fusion Transformer", "time series",
        "NVIDIA/DeepLearningExamples@729963d TFT/configuration.py:46-50", "series",
        (Part((128, 128, 1), (_gpu(168, 1024, "forward_backward", "float32", 1024),
                              _cpu(168, 16, "forward_backward", 16, scaled=True))),),
        (Published("12 435 items/s in training on an A100 in TF32, whole model (README.md:429)", 1024 / 12_435, "A100", 1024,
                   "forward_backward"),),
    ),
    System(
        "forecast-deepar", "Forecasting, DeepAR", "time series", "awslabs/gluonts@3d05d46",
        "series", (Part((40, 40, 2), (_cpu(48, 32, "forward_backward", 32),)),),
    ),
    System(
        "hydrology", "Rainfall-runoff model, NeuralHydrology", "time series",
        "neuralhydrology/neuralhydrology@76d0850 531_basins.yml:52,76,88,120-157", "basin years",
        (Part((32, 256, 1), (_gpu(270, 256, "forward_backward", "float32", 256),
                             _cpu(270, 8, "forward_backward", 8, scaled=True))),),
    ),
    System(
        "finance", "Stock ranking, Qlib Alpha360", "time series", "microsoft/qlib@d5379c5",
        "series", (Part((6, 64, 2), (_cpu(60, 800, "forward_backward", 800),)),), note="60 steps were recalled, not read",
    ),
    System(
        "logs", "Anomalies in logs, DeepLog", "time series", "donglee-afar/logdeep@ec18b29", "windows",
        (Part((1, 64, 2), (_cpu(10, 2048, "forward_backward", 2048),)),),
    ),
    System(
        "rl-puffer", "Policy of a simulated game, PufferLib", "reinforcement learning",
        "PufferAI/PufferLib@91460f7 models.py:64-76", "environment steps",
        (Part((128, 128, 1), (_gpu(64, 512, "forward_backward", "float32", 64 * 512), _gpu(1, 4096, "step", "float32", 4096),
                              _cpu(1, 4096, "step", 4096))),),
    ),
    System(
        "rl-hand", "Policy of a robot hand, IsaacGym AllegroHand", "reinforcement learning",
        "isaac-sim/IsaacGymEnvs@aeed298 cfg/train/AllegroHandLSTMPPO.yaml:42-86", "environment steps",
        (Part((50, 512, 1), (_gpu(16, 1024, "forward_backward", "float32", 16 * 1024),
                             _cpu(16, 16, "forward_backward", 256, scaled=True))),),
        note="the number of inputs was recalled, not read",
    ),
    System(
        "rl-actuator", "Actuator model of a walking robot, ANYmal", "reinforcement learning",
        "leggedrobotics/legged_gym@8fa29ac anymal.py:65-67,80-86", "actuator steps",
        (Part((2, 8, 2), (_gpu(1, 49152, "step", "float32", 49152), _cpu(1, 49152, "step", 49152))),),
    ),
    System(
        "rl-r2d2", "Atari agent, R2D2 in Acme", "reinforcement learning", "google-deepmind/acme@770bc75 r2d2/config.py:32-45",
        "environment steps", (Part((531, 512, 1), (_gpu(120, 64, "forward_backward", "float32", 120 * 64),
                                                   _cpu(120, 1, "forward_backward", 120, scaled=True))),),
        note="18 actions and a reward are added to the 512 features",
    ),
    System(
        "rl-alphastar", "StarCraft agent, DI-star", "reinforcement learning",
        "opendilab/DI-star@12b1c69 actor_critic_default_config.yaml:380-384", "environment steps",
        (Part((1536, 384, 3), (_gpu(16, 4, "forward_backward", "float32", 64), _cpu(16, 4, "forward_backward", 64))),),
    ),
)  # fmt: skip
BY_NAME = {system.name: system for system in SYSTEMS}
