"""Scripts that people run; each writes a results folder."""
