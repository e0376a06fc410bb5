"""What can be learnt over lag: the tasks, many networks trained as one batch, and the lags they are asked to bridge."""
