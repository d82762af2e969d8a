"""Token shards and a model in, checkpoints out. Runs in-process, under torchrun, or inside Ray Train; imports only store."""
