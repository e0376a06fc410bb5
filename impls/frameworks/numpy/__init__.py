"""The float64 reference, in NumPy."""
