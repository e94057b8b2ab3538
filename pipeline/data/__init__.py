"""What a dataset is on disk: manifests, feature stores, masks, and the loaders of the owners' layouts."""
