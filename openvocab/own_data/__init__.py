"""A user's own data: which files hold images and labels, how they are split, and what is wrong with them."""
