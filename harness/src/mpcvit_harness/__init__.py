"""Experiments, records and report of the MPCViT reproduction."""
