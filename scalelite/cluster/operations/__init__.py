"""What the balancer does with the store and the servers: create, list, end, cordon, panic. One module an operation."""
