"""Records that somebody else made: whether they hold, and how folders of them become one."""
