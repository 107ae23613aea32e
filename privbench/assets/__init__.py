"""Files that come with the package; NOTICE has their licenses."""
