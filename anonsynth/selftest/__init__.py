"""Tests that a site runs on itself: seeded secrets through its own policy, and a search for what survived."""
