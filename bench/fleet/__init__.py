"""One run over several machines: who measures what (`scheduler`), what is kept (`head`), and Ray, which carries it out."""
