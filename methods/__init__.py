"""The defenses: one file each."""
