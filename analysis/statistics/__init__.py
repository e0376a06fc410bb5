"""Ratios, intervals, verdicts: statistics that no single study owns."""
