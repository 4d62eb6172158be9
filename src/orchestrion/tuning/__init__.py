"""The tuner: from recorded outcomes to the cheapest policy that keeps a promised share of the frontier's quality."""
