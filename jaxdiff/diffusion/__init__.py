"""Noise and its schedules, preconditioning, changes of variable, exact denoisers."""
