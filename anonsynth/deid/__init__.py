"""De-identification of DICOM: an allow-list that looks at values, keyed pseudonyms, and an encrypted vault."""
