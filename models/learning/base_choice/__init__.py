"""The choice of a base, where a job leaves it to us: a cheap probe of every one that could take the job."""
