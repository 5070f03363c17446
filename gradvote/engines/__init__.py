"""Engines: where workers and server live. They call an algorithm's verbs and know nothing of what is inside."""
