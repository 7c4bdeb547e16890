//! Starting the cluster from the agent's flags; what is said of it in `/metrics` and the log.
