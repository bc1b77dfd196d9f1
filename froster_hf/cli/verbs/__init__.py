"""One module a verb of `froster`; see `froster_hf.cli` for what a verb is."""
