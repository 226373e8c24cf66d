"""Drawing aids that several figures share."""
