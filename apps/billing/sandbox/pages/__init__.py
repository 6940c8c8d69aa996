"""The pages Stripe would host. An unguessable URL is all it takes to open one, as there."""
