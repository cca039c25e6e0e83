"""The names on the wire: the records of a message between hub and site, and nothing else.

A request holds `ARRAYS` (one packed array) and `CONFIG`; a reply to training `ARRAYS` and
`METRICS` (a count), a reply to evaluation `METRICS` (a count and a loss). A reply to the question
for scores holds `METRICS` (a count and cells, see `federated.cells`); `HISTOGRAMS` is what the app
tells the guard, and never leaves.
"""

ARRAYS, PACKED = "arrays", "packed"  # record and its only array
METRICS, COUNT, LOSS = "metrics", "num-examples", "loss"
CONFIG, ROUND, FINGERPRINT = "config", "server-round", "fingerprint"
PROXIMAL = "proximal-mu"  # Flower's FedProx puts it into `CONFIG`
SCORES = "evaluate.scores"  # type of the message that asks for cells
CELLS, STATED = "cells", "stated"  # four whole numbers a cell, and a mean probability
HISTOGRAMS, COUNTS, SUMS, EXCLUSIVE = "histograms", "counts", "sums", "exclusive"
REFUSED = 409  # status of a key that nobody registered; Flower would hide 401 and 403
CLIPPING = 8.0  # of secure aggregation: no weight of the network is further from 0
STEPS = 2**22  # in which that range is counted
MODULUS = 2**32  # so that the sum of up to 1,024 sites has room
MAX_ROUNDS = 1000
MAX_PROXIMAL = 1000.0
