"""WHAT was measured: the record schema and its history, appending and reading, and the data itself under `runs/`."""
