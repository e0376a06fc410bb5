"""One file a study, each with one `STUDY`."""
