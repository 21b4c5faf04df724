"""De-identification of DICOM: an allow-list whose every value is looked at, keyed pseudonyms, and an encrypted vault."""
