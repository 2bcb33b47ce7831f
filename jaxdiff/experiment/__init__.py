"""Config -> stages -> run: the one place where the rooms meet."""
