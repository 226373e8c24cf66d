"""Data sets: found, downloaded, split, and augmented on the device."""
