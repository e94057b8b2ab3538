"""The one place where a clip's picture and sound are decoded (PyAV); units are in the names."""
