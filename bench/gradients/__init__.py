"""How gradients fade with length: initialisations, linearised cells, and the sweeps that measure them."""
