"""From a kernel's source to a launch: compilation, artifacts, the driver."""
