"""Plans of studies: the checked study file, and the configurations of its trials."""
