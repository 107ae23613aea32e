"""Private pictures for the client: one file per data set."""
