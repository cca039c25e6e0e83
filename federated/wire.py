"""The names on the wire: the records of a message between hub and site, and nothing else.

A request holds `ARRAYS` (one packed array) and `CONFIG`; a reply to training `ARRAYS` and
`METRICS` (a count), a reply to evaluation `METRICS` (a count and a loss).
"""

ARRAYS, PACKED = "arrays", "packed"  # record and its only array
METRICS, COUNT, LOSS = "metrics", "num-examples", "loss"
CONFIG, ROUND, FINGERPRINT = "config", "server-round", "fingerprint"
PROXIMAL = "proximal-mu"  # Flower's FedProx puts it into `CONFIG`
MAX_ROUNDS = 1000
MAX_PROXIMAL = 1000.0
