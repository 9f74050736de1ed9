"""The report of a training run: tables, pictures, and one page of all of them."""
