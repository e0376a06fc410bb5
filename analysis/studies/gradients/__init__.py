"""How gradients decay over the lag: rates, half-lives, where they end, by precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.report.load import rows_of
from analysis.statistics import seeds
from analysis.statistics.quantities import REFERENCE, Quantity
from analysis.statistics.ratios import median_interval
from analysis.statistics.seeds import NOT_MEASURED, Estimate, exact, missing, too_few
from results.metrics import HOP_SHARE, Gap, NumberedMetric

# Where a seed's curve of gradients ends before the others', and why: it is exactly zero from there on, or not finite.


def numbers_of(rows: pd.DataFrame, metric: NumberedMetric) -> list[int]:
    """The lags, or updates, at which a metric was measured, in order."""
    return sorted({number for name in map(str, rows["metric"]) if (number := metric.number(name)) is not None})


def read_gaps(notes: Iterable[str]) -> list[Gap]:
    """Those that the notes of a measurement name; the notes are stored text."""
    return [gap for note in notes if (gap := Gap.from_note(note))]


def gaps_of(rows: pd.DataFrame, metric: str) -> list[Gap]:
    """The gaps of one metric; rows of one case."""
    return [gap for notes in rows.loc[rows["metric"] == metric, "notes"] for gap in read_gaps(notes)]


def gap_sentences(series: pd.DataFrame) -> list[str]:
    """One for each case and backend: `irnn-… on reference: log_gradient is exactly zero at lag 399 for seeds 0 and 4.`"""
    noted = series[series["notes"].map(len) > 0]
    groups = noted.groupby(["case", "backend"], sort=False)
    return [f"{case} on {backend}: {text}." for (case, backend), rows in groups if (text := case_gaps(rows))]


def case_gaps(rows: pd.DataFrame) -> str:
    """Every metric with gaps, of one case on one backend; each once, however many runs measured it."""
    found = {row["metric"]: read_gaps(row["notes"]) for row in rows_of(rows)}
    return "; ".join(f"{metric} is {format_gaps(own)}" for metric, own in found.items() if own)


def format_gaps(gaps: Iterable[Gap]) -> str:
    """`exactly zero at lag 24 for seed 1, at lag 26 for seeds 0 and 4`."""
    parts: dict[str, list[str]] = {}
    grouped: dict[tuple[bool, int], list[int]] = {}
    for gap in gaps:
        grouped.setdefault((gap.zero, -1 if gap.lag is None else gap.lag), []).append(gap.seed)
    for (zero, lag), own in sorted(grouped.items(), key=lambda each: (not each[0][0], each[0][1])):
        at = f"at lag {lag} " if lag >= 0 else ""
        of_seeds = f"for seed{'s'[: len(own) > 1]} {words.join_list(map(str, sorted(own)))}"
        parts.setdefault("exactly zero" if zero else "not finite", []).append(f"{at}{of_seeds}")
    return "; ".join(f"{what} {', '.join(where)}" for what, where in parts.items())


# What an attenuation curve says: its rate, its horizon, its half-life, and whether it is an exponential of lag.

DECAY_THRESHOLD = 1e-3  # of the gradient at lag 0: the horizon's threshold
RATE_WINDOW = (20, 200)  # lags
FIRST_FITTED_LAG = 5  # the offset's first steps are no part of the law
FEWEST_POINTS = 8


@dataclass(frozen=True, slots=True)
class Curve:
    """logs: [S, K], ln A at `lags`, each seed's own value at lag 0 taken off. steps: T of the case.

    −inf from the lag on at which a seed's gradient is exactly zero: it has decayed. NaN where it is not known (not finite).

    A seed at exactly zero stays in: cutting all curves to its length would censor the others, and leaving it out would keep
    only the seeds that survive.
    """

    lags: np.ndarray
    logs: np.ndarray
    steps: int

    @property
    def mean(self) -> np.ndarray:
        """Over all seeds: −inf from where the first of them is exactly zero."""
        return self.logs.mean(0)

    @property
    def half_width(self) -> np.ndarray:
        """Of the pointwise t-interval over seeds; zero where one seed leaves nothing to bound it with."""
        if len(self.logs) == 1:
            return np.zeros(len(self.lags))
        with np.errstate(invalid="ignore"):  # NaN where a seed has no number: no band there
            return seeds.half_width(self.logs)

    @property
    def shared(self) -> Curve:
        """As far as every seed has a number."""
        finite = np.isfinite(self.logs).all(axis=0)
        count = len(self.lags) if finite.all() else int(np.argmin(finite))
        return Curve(self.lags[:count], self.logs[:, :count], self.steps)

    @property
    def underflow_lags(self) -> list[int]:
        """The lag at which each seed whose gradient becomes exactly zero has lost it."""
        return [int(self.lags[np.argmax(own == -np.inf)]) for own in self.logs if (own == -np.inf).any()]

    @property
    def why_shortened(self) -> str:
        """For a reader, where a law needs more lags than all seeds have; nothing where none ended early."""
        died, unknown = len(self.underflow_lags), int(np.isnan(self.logs).any(1).sum())
        parts = [f"exactly zero in {died} of {len(self.logs)} seeds from lag {min(self.underflow_lags)} on"] if died else []
        parts += [f"not finite in {unknown} of {len(self.logs)}"] if unknown else []
        return ", ".join(parts)

    def at(self, lag: int) -> np.ndarray | None:
        """Every seed's value at a lag, −inf where its gradient is exactly zero; None beyond the curve."""
        if lag > self.lags[-1]:
            return None
        return np.array([_between(self.lags, own, lag) for own in self.logs])


def _between(lags: np.ndarray, own: np.ndarray, lag: int) -> float:
    """Read between the kept lags as far as there are numbers."""
    known = np.isfinite(own)
    last = len(own) if known.all() else int(np.argmin(known))
    return float(np.interp(lag, lags[:last], own[:last])) if last and lag <= lags[last - 1] else float(own[-1])


def curve(rows: pd.DataFrame, name: str = "log_gradient", relative: bool = True) -> Curve | None:
    """The curve of the rows of one case; None where it has none."""
    found = seeds.metric(rows, name)
    lags = rows.loc[rows["metric"] == "lag", "samples"]
    if lags.empty or not any(len(own) for own in found):
        return None
    zero = {gap.seed for gap in gaps_of(rows, name) if gap.zero}
    at = lags.iloc[-1]
    at = at if zero else at[: max(len(own) for own in found)]
    logs = np.full((len(found), len(at)), np.nan)
    for seed, own in enumerate(found):
        logs[seed, : len(own)] = own
        if seed in zero:
            logs[seed, len(own) :] = -np.inf
    if relative:
        with np.errstate(invalid="ignore"):  # of a seed that has no gradient at all, not even at lag 0
            logs = logs - logs[:, :1]
    return Curve(at, logs, int(rows["steps"].iloc[0]))


def horizon(of: Curve, threshold: float = DECAY_THRESHOLD) -> Estimate:
    """The first lag at which the mean over seeds of ln A has fallen by ln `threshold`.

    Its interval is where the edges of the pointwise t-band over seeds fall as far. A curve or an edge that never does is
    censored: beyond the last lag, not at it. Where seeds become exactly zero before that is decided, there is no mean of
    logarithms: then it is the median of the seeds' own horizons, a gradient of zero having fallen below any threshold.

    Not a bootstrap over seeds: first crossings are discrete and often censored, and percentiles of ten of them cover 90 %
    instead of 95 %.
    """
    if len(of.logs) < seeds.FEWEST_SEEDS:
        return too_few(len(of.logs), "seed", "for an interval")
    shared, log_threshold = of.shared, float(np.log(threshold))
    middle, half = shared.mean, shared.half_width
    value, low, high = (_crossing(shared.lags, values, log_threshold) for values in (middle, middle - half, middle + half))
    if len(shared.lags) < len(of.lags) and None in (value, low, high):
        return _median_horizon(of, log_threshold)
    last = float(of.lags[-1])
    beyond = last if value is None or high is None else None
    return Estimate(value, last if low is None else low, high, len(of.logs), beyond)


def _median_horizon(of: Curve, threshold: float) -> Estimate:
    """With the interval of a median that assumes no distribution; seeds that never fade rank above all that do."""
    count, last = len(of.logs), float(of.lags[-1])
    own = [_crossing(of.lags, values, threshold) for values in of.logs]
    unknown = sum(lag is None and bool(np.isnan(values).any()) for lag, values in zip(own, of.logs, strict=True))
    if unknown:
        return missing(f"not finite in {unknown} of {count} seeds before it has faded")
    found = median_interval(np.array([np.inf if lag is None else lag for lag in own]))
    if found[1] is None:
        return missing(f"{of.why_shortened}: {count} seeds are too few for an interval of their median")
    value, low, high = (None if each is None or np.isinf(each) else each for each in found)
    beyond = last if value is None or high is None else None
    return Estimate(value, last if low is None else low, high, count, beyond, f"median of seeds: {of.why_shortened}")


def _crossing(lags: np.ndarray, values: np.ndarray, threshold: float) -> float | None:
    """The first whole lag at which the values, interpolated between the kept lags, lie below the threshold."""
    below = np.flatnonzero(values < threshold)
    if not len(below):
        return None
    place = int(below[0])
    if place == 0 or values[place] == -np.inf:  # exactly zero: nothing to interpolate
        return float(lags[place])
    (left, right), (upper, lower) = lags[place - 1 : place + 1], values[place - 1 : place + 1]
    exact = left + (right - left) * (upper - threshold) / (upper - lower)
    return float(np.floor(exact) + 1 if exact == np.floor(exact) else np.ceil(exact))


def rate(of: Curve) -> Estimate:
    """Nats a step: each seed's least-squares slope over `RATE_WINDOW`, or what all seeds have of it."""
    return _line(of, 0)


def offset(of: Curve) -> Estimate:
    """Nats at lag 0 of the line whose slope is the rate: what the first steps cost or gain beside it."""
    return _line(of, 1)


def _line(of: Curve, coefficient: int) -> Estimate:
    why, of = of.why_shortened, of.shared
    window = (of.lags >= RATE_WINDOW[0]) & (of.lags <= RATE_WINDOW[1])
    if window.sum() < FEWEST_POINTS:
        few = (
            f"{words.format_count(int(window.sum()), 'lag')} between {RATE_WINDOW[0]} and {RATE_WINDOW[1]}: too few for a slope"
        )
        return missing(f"{why}; {few}" if why else few)
    return seeds.mean(np.polyfit(of.lags[window], of.logs[:, window].T, 1)[coefficient])


def half_life(of: Curve) -> Estimate:
    """Steps in which the gradient halves at its rate; none where it does not fall."""
    found = rate(of)
    if found.value is None or found.low is None or found.high is None:
        return found
    if found.value >= 0:
        return missing("does not fall")
    value, low = (float(np.log(0.5) / slope) for slope in (found.value, found.low))
    if found.high >= 0:
        return Estimate(None, low, None, found.seeds, beyond=low)
    return Estimate(value, low, float(np.log(0.5) / found.high), found.seeds)


def bic_for_exponential(of: Curve) -> Estimate:
    """BIC of the power law less that of the exponential, mean over seeds with its t-interval; above 10 is decisive.

    ln A is a sum of one random stretch a step, so its errors pile up along the curve and neighbouring points tell the same
    thing twice. The likelihood is therefore that of the increments: ln A(k') − ln A(k) is normal with variance in proportion
    to k' − k, and with mean b·(k' − k) for an exponential, b·(ln k' − ln k) for a power. Both laws have two parameters.
    (Kass & Raftery 1995 for the scale of evidence: a difference of 10 is "very strong".)
    """
    why, of = of.why_shortened, of.shared
    window = of.lags >= FIRST_FITTED_LAG
    lags, logs = of.lags[window], of.logs[:, window]
    if len(lags) <= FEWEST_POINTS:
        few = f"{words.format_count(len(lags), 'lag')}: too few to tell the laws apart"
        return missing(f"{why}; {few}" if why else few)
    widths = np.sqrt(np.diff(lags))
    rises = np.diff(logs, axis=1) / widths
    found = []
    for own in rises:
        exponential, power = (_left_over(own, regressor / widths) for regressor in (np.diff(lags), np.diff(np.log(lags))))
        if exponential <= 0 or power <= 0:
            return missing("a curve without noise: no likelihood")
        found.append(len(own) * np.log(power / exponential))
    return seeds.mean(np.array(found))


def _left_over(values: np.ndarray, regressor: np.ndarray) -> float:
    """Residual sum of squares of values = b · regressor."""
    slope = float(values @ regressor / (regressor @ regressor))
    return float(np.square(values - slope * regressor).sum())


# From which lag on a gradient kept in a format of few bits is no longer the number it should be.

SMALLEST_NORMAL = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126, "float64": 2.0**-1022}


def zero_lag(rows: pd.DataFrame, metric: str = "log_largest") -> Estimate:
    """The first lag at which every number of the gradient is exactly zero; "> T" where that never comes."""
    return _first(rows, metric, -np.inf)


def denormal_lag(rows: pd.DataFrame, metric: str = "log_largest") -> Estimate:
    """The first lag at which the largest number of the gradient is below the format's smallest normal one: digits go."""
    return _first(rows, metric, float(np.log(SMALLEST_NORMAL[str(rows["dtype"].iloc[0])])))


def _first(rows: pd.DataFrame, metric: str, threshold: float) -> Estimate:
    """A seed's curve ends where all is zero, so its length is that lag. rows: of one case."""
    found = seeds.metric(rows, metric)
    if not found:
        return NOT_MEASURED
    if any(not gap.zero for gap in gaps_of(rows, metric)):
        return missing("overflows")
    steps = int(rows["steps"].iloc[0])
    lags = [int(np.flatnonzero(np.append(own < threshold, True))[0]) for own in found]
    reached = [lag for lag in lags if lag < steps]
    if len(reached) == len(lags):
        return seeds.mean(np.array(lags, float))
    return Estimate(None, float(min(*lags, steps - 1)), None, len(lags), beyond=float(steps - 1))


# What claims are judged by.


def _of_curve(estimate: Callable[[Curve], Estimate], metric: str = "log_gradient") -> Callable[[pd.DataFrame], Estimate]:
    def quantity(rows: pd.DataFrame) -> Estimate:
        of = curve(rows, metric)
        return NOT_MEASURED if of is None else estimate(of)

    return quantity


def _passed_over_100(of: Curve) -> Estimate:
    """A(100)/A(1); 0 where it is exactly zero in every seed."""
    early, late = of.at(1), of.at(100)
    if early is None or late is None:
        return missing("fewer than 100 steps")
    zero = int((late == -np.inf).sum())
    if zero == len(late):
        return exact(0.0, zero)
    return missing(f"exactly zero at lag 100 in {zero} of {len(late)} seeds") if zero else seeds.geometric_mean(late - early)


def _cell_cosine_at_100(rows: pd.DataFrame) -> Estimate:
    of = curve(rows, "cell_cosine", relative=False)
    values = of.at(100) if of is not None else None
    return NOT_MEASURED if values is None else seeds.mean(values)


def _extreme(metric: str, of: Callable[[np.ndarray], float]) -> Callable[[pd.DataFrame], Estimate]:
    """The largest or least value; nothing is estimated, so it is its own interval."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        values = np.concatenate([np.empty(0), *seeds.metric(rows, metric)])
        return exact(of(values), len(values)) if len(values) else NOT_MEASURED

    return quantity


def _disagreement(*metrics: str) -> Callable[[pd.DataFrame], Estimate]:
    """The largest difference in nats between any backend's curves and the reference's."""

    def quantity(rows: pd.DataFrame) -> Estimate:
        worst, backends = 0.0, 0
        for name in metrics:
            measured = rows[rows["metric"] == name]
            reference = measured.loc[measured["backend"] == REFERENCE, "samples"]
            others = measured.loc[measured["backend"] != REFERENCE, "samples"]
            if reference.empty or others.empty:
                return NOT_MEASURED
            if any(len(own) != len(reference.iloc[0]) for own in others):
                return missing("a backend's gradient is exactly zero or not finite somewhere")
            worst = max(worst, *(float(np.abs(own - reference.iloc[0]).max()) for own in others))
            backends = len(others)
        return exact(worst, backends)

    return quantity


def _rate_over_shortcut(rows: pd.DataFrame) -> Estimate:
    """Nats a layer beyond the logarithm of what the shortcut is multiplied by."""
    of, shortcut = curve(rows), seeds.metric(rows, "shortcut")
    if of is None or not shortcut:
        return NOT_MEASURED
    found, log = rate(of), float(np.log(shortcut[0][0]))
    value, low, high = (None if each is None else each - log for each in (found.value, found.low, found.high))
    return replace(found, value=value, low=low, high=high)


QUANTITIES = {
    "horizon": Quantity(_of_curve(horizon), "decay length (10⁻³)", "steps"),
    "rate": Quantity(_of_curve(rate), "rate", "nat/step"),
    "offset": Quantity(_of_curve(offset), "offset", "nat"),
    "half_life": Quantity(_of_curve(half_life), "half-life", "steps"),
    "bic_for_exponential": Quantity(_of_curve(bic_for_exponential), "ΔBIC"),
    "passed_over_100": Quantity(_of_curve(_passed_over_100), "A(100)/A(1)"),
    "cell_cosine_at_100": Quantity(_cell_cosine_at_100, "cosine at lag 100"),
    "identity_error": Quantity(_extreme("identity_error", np.max), "largest error"),
    "identity_contrast": Quantity(_extreme("identity_contrast", np.min), "least difference where the identity must fail"),
    "hop_share_at_10": Quantity(partial(seeds.first, name=HOP_SHARE.name(10)), "share of paths that stay in the cell"),
    "largest_exponent": Quantity(partial(seeds.first, name="lyapunov"), "λ₁", "nat/step"),
    "input_passed_over_100": Quantity(_of_curve(_passed_over_100, "log_input"), "A(100)/A(1)"),
    "input_disagreement": Quantity(_disagreement("log_input"), "largest difference of ln‖dL/dx‖", needs_every_backend=True),
    "state_disagreement": Quantity(
        _disagreement("log_hidden", "log_cell"), "of ln‖dL/dh‖ and ln‖dL/dc‖", needs_every_backend=True
    ),
    "rate_over_shortcut": Quantity(_rate_over_shortcut, "rate less ln s", "nat/layer"),
    "zero_lag": Quantity(zero_lag, "exactly zero from", "steps"),
    "denormal_lag": Quantity(denormal_lag, "denormal from", "steps"),
}
