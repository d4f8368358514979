"""Files for what starts a night: cron, systemd, Airflow, Kubernetes. They only call the command line."""
