"""Records to tables: one `Table`, four writers."""
