"""What is known after a run, and what follows from it by arithmetic. Torch-free as a whole."""
