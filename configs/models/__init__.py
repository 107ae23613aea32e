"""One victim per file; the file name is its name on the command line."""
