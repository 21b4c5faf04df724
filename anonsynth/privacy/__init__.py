"""What training costs the patients, and how it is stated. Zone: spending."""
