"""What works on this computer and what does not, each with what to do: one small function for each finding."""
