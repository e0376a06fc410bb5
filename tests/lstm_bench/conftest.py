"""The command line's tests share the harness's misbehaving backends."""

from tests.bench.conftest import misbehaving as misbehaving
