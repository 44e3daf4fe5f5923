"""From a study file to the trials that it asks for."""
