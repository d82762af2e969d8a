"""Documents in, token shards out: sources, stages, deduplication, classifier, selection, tokenisation, packing."""

from corpus.kernel_cache import use_kernel_cache

use_kernel_cache()
