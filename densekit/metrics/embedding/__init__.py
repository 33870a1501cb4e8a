"""Metrics of embeddings: verification of pairs, identification in a gallery."""
