"""`auto`: the policy, the budget, the race of candidates, priors from earlier jobs."""
