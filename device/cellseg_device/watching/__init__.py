"""Images as they come: scanning a folder, waking, working, and timing it."""
