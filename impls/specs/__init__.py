"""What a network computes, as plain values: cells and sizes, weights' shapes, parameters and operations."""
