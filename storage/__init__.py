"""Where bytes live: artifacts and results."""
