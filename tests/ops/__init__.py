"""What operators promise beyond the contract: torch's semantics, refusals, constants, networks."""
