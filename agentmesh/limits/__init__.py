"""Rate limits: the arithmetic of each kind of window, who is admitted next, and the lane where calls wait."""
