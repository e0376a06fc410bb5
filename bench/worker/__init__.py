"""A worker process: one backend, loaded, validated and timed."""
