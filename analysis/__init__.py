"""WHAT it means: statistics, comparison, tables, figures and the report over what `results` holds; imports nothing heavy itself."""
