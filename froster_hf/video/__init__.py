"""Exact video decoding, in a process that may die or hang without harm; nothing of transformers is needed."""
