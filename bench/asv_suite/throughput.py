"""The throughput study under asv: it tracks the harness's own figure and does not time again.

asv run --python=same --launch-method=spawn
"""

from bench.regression import track


class Throughput:
    """Median seconds a call, by case and backend. Cases are those of the scale in LSTM_BENCH_SCALE (default: smoke)."""

    param_names = ("case", "backend")
    params = track.parameters("throughput")
    unit = "s"
    version = "1"  # fixed by hand: editing this file must not begin a new series
    timeout = 600

    def setup(self, case: str, backend: str) -> None:
        # Measured here, since only in a setup does asv take NotImplementedError for n/a.
        self.seconds = track.median_seconds("throughput", case, backend)

    def track_median_seconds(self, case: str, backend: str) -> float:
        return self.seconds
