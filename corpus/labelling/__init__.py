"""Labels for pages: asked of language models, and of people. See docs/labelling.md.

This module imports nothing: who asks for parameters need not load an HTTP client.
"""
