"""The machine: processors, noise, locks, what it runs and whose commit it is."""
