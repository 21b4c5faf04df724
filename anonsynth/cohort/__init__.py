"""DICOM and NIfTI in, one grid, a split by patient: the private side. Zone: private."""
