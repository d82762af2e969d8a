"""How work runs: Ray session, executor, Ray Train gang, the pipeline, the command line. The only room that imports ray."""
