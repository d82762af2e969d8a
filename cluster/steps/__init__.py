"""The kinds of steps of a run, one module a stretch of the road. Each gives graph nodes; the work is done by the rooms."""
