"""From features to trained networks: experiments, samples, folds, the loop, regimes, metrics."""
