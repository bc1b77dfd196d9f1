"""Tests of `froster_hf.video`."""
