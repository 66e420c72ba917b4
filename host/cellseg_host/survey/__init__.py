"""What a data set holds, before anyone trains on it: its images, its labels, and what is wrong with them."""
