"""Runs: from a suite to jobs, and from jobs to records."""
