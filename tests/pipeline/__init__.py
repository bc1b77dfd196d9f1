"""Tests of `froster_hf.pipeline`."""
