"""Attacks: they propose adversarial inputs and never judge them."""
