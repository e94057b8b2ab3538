"""The command ``lacuna``, and what its verbs do."""
