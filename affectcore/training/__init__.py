"""Training: readers of the published data sets, the recipes of the embedded models, and fitting of users' own heads."""
