"""Tests of `froster_hf.modeling`."""
