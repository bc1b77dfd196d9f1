"""Tests of the moving-shapes world."""
