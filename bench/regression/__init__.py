"""Measuring change: pairs of revisions, bisection, tracking."""
