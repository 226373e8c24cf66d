"""The evaluator: it judges what attacks propose, and looks for signs of masking."""
