"""A package a study: its `__init__` defines `STUDY`; what measures it, where that imports a framework, lies beside it."""
