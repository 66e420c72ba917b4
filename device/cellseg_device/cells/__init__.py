"""From maps to cells: separating, measuring, assessing and counting them."""
