"""DICOM files in, volumes with their geometry out. Zone: private."""
