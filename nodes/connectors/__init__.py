"""Sources, sinks and locks over other systems; each needs its extra."""
