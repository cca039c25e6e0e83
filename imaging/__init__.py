"""What the scan shows: reading, checking, preparing and segmenting brain MRI."""
