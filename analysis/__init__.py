"""WHAT it means: statistics, comparison, tables, figures and the report over what `results` holds."""

from lstm_bench.errors import UserError


class AnalysisError(UserError, ValueError):
    """Something asked of the analysis that it cannot give; the message says what was asked, what is there and what to do."""
