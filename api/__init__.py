"""HTTP only: routes, request and response bodies, authentication, limits and the error envelope."""
