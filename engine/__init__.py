"""How a graph runs: compiler, core, codec, wire, hub, workers, runners, report and command line."""
