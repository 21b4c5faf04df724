"""How generated scans are written for others. Zone: shareable."""
