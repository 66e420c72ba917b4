"""What works on this computer and what does not, and what to do about it: one small function for each finding."""
