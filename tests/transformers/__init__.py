"""transformers' own tests on this package's classes; run by `make test-transformers`, not by `make test`."""
