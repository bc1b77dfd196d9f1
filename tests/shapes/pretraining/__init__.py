"""Tests of `froster_hf.training`."""
