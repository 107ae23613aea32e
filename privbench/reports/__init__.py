"""Reports: tables and figures from records."""
