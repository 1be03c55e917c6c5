"""What a dataset is: volumes, labels, cases, folds."""
