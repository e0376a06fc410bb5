"""What is asked for and how a run is carried out: cases, plans, sessions."""
