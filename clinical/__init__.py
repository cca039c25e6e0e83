"""What the record says: FHIR import, units, notes, and the tokens made of them."""
