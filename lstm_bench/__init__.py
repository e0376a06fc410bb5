"""The face: the command line, the only room that knows both what measures and what draws."""
