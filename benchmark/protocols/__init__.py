"""The published protocols, one TOML file each."""
