"""One file a figure: each takes frames and returns a `Drawing`, or None where there is nothing to show."""
