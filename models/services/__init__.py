"""The use cases. The first argument of each is `Resources`, the second is the customer."""
