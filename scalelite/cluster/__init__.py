"""What the balancer knows and decides: servers, meetings, tenants, placement, load, operations."""
