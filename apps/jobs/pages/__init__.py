"""What the pages of jobs show: read here, so that a view and a socket render the same parts."""
