"""The commands of the command line, one module each; imported when called, so that --help is quick."""
