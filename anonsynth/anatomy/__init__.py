"""Label maps and the anatomy they are drawn from: templates, warps, tumours, priors, the simulator."""
