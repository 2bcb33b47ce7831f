"""One loop for all stages: state, step, loop, checkpoints, sharding, metrics."""
