"""Executors: have jobs done in processes here or on a cluster, and know nothing of what is in them."""
