"""Annotation readers, splits, and the moving-shapes world."""
