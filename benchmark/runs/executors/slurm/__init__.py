"""The Slurm executor: jobs as arrays on a cluster, which go on without the command that queued them."""
