"""Detectors of speech: samples in, verdicts out."""
