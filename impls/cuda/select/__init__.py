"""Which kernel configuration runs a layer: plans, what was measured, what is modelled."""
