"""Executors: couriers that carry jobs to processes and know nothing of what is in them."""
