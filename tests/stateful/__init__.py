"""Random sequences of calls, deaths, updates and rollbacks, compared with models of the components."""
