"""Claims of papers, one file each: what is compared, and what a claim expects."""
