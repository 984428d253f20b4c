"""The wire format: what a request may hold and how an answer looks. One module per resource."""
