"""Programs that use N-body simulations."""
