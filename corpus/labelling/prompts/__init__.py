"""The built-in prompts: ``en.yaml`` and ``de.yaml``, read by corpus.labelling.prompt."""
