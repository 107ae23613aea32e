"""Re-assembly: patches put back into order."""
