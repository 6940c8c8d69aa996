"""Pages of money, by noun. Each act is one call of a service; what it refuses is shown at the field it is about."""
