"""What ballots are called: `names` by digest or by signature, `keys` of a run that signs (extra `signed`)."""
