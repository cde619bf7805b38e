"""Questions in SQL, the figures that answer them, and the pages that show both."""
