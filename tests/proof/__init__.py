"""The long proofs: what `make test` asserts in seconds, at length, with reports in docs/proof."""
