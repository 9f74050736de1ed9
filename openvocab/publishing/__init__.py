"""A trained model as a folder for others: weights, the config within them, and a model card."""
