"""Integrators of the reverse process: functions of a denoiser."""
