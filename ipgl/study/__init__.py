"""Studies as a whole: running, resuming, reading, comparing and synchronising them with a tracker."""
