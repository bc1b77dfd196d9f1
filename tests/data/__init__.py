"""Tests of `froster_hf.data`."""
