"""Secure two-party inference on SecretFlow SPU, measured."""
