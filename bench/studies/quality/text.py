"""Real text as bytes: the Python standard library's own source, which is always there, or a file the user names."""

from __future__ import annotations

import functools
import hashlib
import os
import sysconfig
from pathlib import Path

import numpy as np

from bench.studies.quality.source import drawn

HELD_OUT_EVERY = 10  # blocks of which one is held out
LARGEST_BLOCK = 65_536  # bytes
FOREIGN = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}  # not everywhere, or not of Python
SHOWN = 12  # hexadecimal digits of a corpus's hash in a case's key


class InvalidCorpus(ValueError):
    """A corpus that cannot be read or is too short; the message says what to name instead."""


class Text:
    """Bytes as tokens. Of every ten blocks one is held out, so that both parts are of all there is."""

    vocabulary = 256
    name = "text"

    def __init__(self, data: bytes, called: str, longest: int) -> None:
        """longest: tokens of the longest window that will be asked for. Raises `InvalidCorpus` where the text is too short."""
        tokens = np.frombuffer(data, np.uint8)
        block = min(LARGEST_BLOCK, len(tokens) // HELD_OUT_EVERY)
        if block < longest:
            raise InvalidCorpus(
                f"{called} has {len(tokens)} bytes, of which a tenth is held out: too few for one window of {longest}; "
                f"name a file of at least {HELD_OUT_EVERY * longest} bytes with --corpus"
            )
        out = np.arange(len(tokens)) // block % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        self.digest, self.size = hashlib.sha256(data).hexdigest(), len(tokens)
        self._train, self._held_out = tokens[~out], tokens[out]

    def windows(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        return drawn(random, self._train, steps, count)

    def held_out(self, random: np.random.Generator, steps: int, count: int) -> np.ndarray:
        return drawn(random, self._held_out, steps, count)

    def optimum(self, windows: np.ndarray) -> None:
        return None


def of_file(path: Path, longest: int) -> Text:
    """The user's corpus. Raises `InvalidCorpus`."""
    return Text(corpus_bytes(path), f"corpus {path}", longest)


def corpus_bytes(path: Path) -> bytes:
    """Raises `InvalidCorpus` where there is no such file, or nothing in it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidCorpus(f"cannot read corpus {path}: {error.strerror}; name a file of text or any bytes") from error
    if not data:
        raise InvalidCorpus(f"corpus {path} is empty; name a file of text or any bytes")
    return data


def corpus_name(path: Path) -> str:
    """What a record calls the corpus: the beginning of its hash, never where it lies."""
    return hashlib.sha256(corpus_bytes(path)).hexdigest()[:SHOWN]


def of_standard_library(longest: int) -> Text:
    return Text(standard_library(), "Python's standard library", longest)


@functools.cache
def standard_library() -> bytes:
    """Every module's source in the order of their paths, without tests, which some distributions leave out."""
    found = []
    for folder, inside, files in os.walk(sysconfig.get_path("stdlib")):
        inside[:] = [name for name in inside if name not in FOREIGN]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return b"".join(path.read_bytes() for path in sorted(found))
