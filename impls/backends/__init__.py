"""One file a backend; files starting with an underscore are shared parts, not backends."""
