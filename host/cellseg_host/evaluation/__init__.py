"""How good labels are: metrics, and models scored on a dataset."""
