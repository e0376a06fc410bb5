"""Language models: where tokens come from, how a model is trained on them, and what it then knows of the past."""
