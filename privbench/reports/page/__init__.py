"""The page: everything that records say, in one file that opens offline."""
