"""Tests of `froster_hf.evaluation`."""
