"""Results that take longer than a chapter may: a command, a stored record, and a short part that CI repeats."""
