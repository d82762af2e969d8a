"""Documents in, token shards out: sources, stages, deduplication, classifier, selection, tokenisation, packing."""
