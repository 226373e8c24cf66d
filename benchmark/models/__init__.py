"""Networks: architectures, files of weights, networks from elsewhere, and the passes that they cost."""
