"""Ratios, intervals, verdicts: statistics that no single study owns."""

CONFIDENCE = 0.95  # of every interval
