"""Where jobs may run; the file name is the name of an executor."""
